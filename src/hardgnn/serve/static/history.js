// What a user had, by the model's time intervals.
function showPast(found) {
  const after = state.after.map(item => ({ ...item, time: null, interval: state.intervals || null, fresh: true }));
  const all = [...state.history, ...after], weights = state.attention || [];
  all.forEach((one, place) => {
    const inWindow = place - (all.length - weights.length);
    one.weight = inWindow >= 0 && weights[inWindow] ? weights[inWindow].weight : null;
  });
  const split = state.history.some(one => one.interval !== null);
  const note = [];
  if (!all.length) note.push(state.user ? "No history is known." : "Choose a user, or add items that somebody unknown has seen.");
  else if (state.history.length < state.whole) note.push(`The last ${state.history.length} of ${count(state.whole, "item")}.`);
  else note.push(`${count(all.length, "item")}.`);
  if (state.attention) note.push("Bars: what the model looks at.");
  by("tab-past").textContent = all.length ? `History (${all.length})` : "History";
  by("past-note").textContent = note.join(" ");
  const groups = new Map();
  if (split) for (let number = 1; number <= state.intervals; number += 1) groups.set(number, []);
  all.forEach(one => {
    const key = split ? one.interval : 0;
    groups.set(key, [...(groups.get(key) || []), one]);
  });
  state.groups = groups;
  if (!groups.has(state.shown)) state.shown = [...groups.keys()].reverse().find(key => groups.get(key).length) ?? null;
  const most = Math.max(1, ...[...groups.values()].map(group => group.length));
  by("strip").hidden = !split;
  by("strip").replaceChildren(...(split ? [...groups] : []).map(([key, group]) => {
    const times = group.map(one => one.time).filter(time => time !== null);
    const when = times.length ? day(Math.min(...times), { month: "short", year: "2-digit" }) : "–";
    const bar = make("span", { className: "bar" });
    bar.style.height = `${36 * group.length / most}px`;
    const button = make("button", { type: "button" }, bar, make("span", { textContent: group.length }),
      make("span", { className: "when", textContent: when }));
    button.dataset.key = key;
    button.setAttribute("aria-label", `Interval ${key} of ${state.intervals}, ${count(group.length, "item")}, from ${when}`);
    button.addEventListener("click", () => { state.shown = key; showGroup(); });
    return button;
  }));
  showGroup();
}

function showGroup() {
  for (const button of by("strip").children) button.setAttribute("aria-pressed", String(Number(button.dataset.key) === state.shown));
  const group = [...(state.groups.get(state.shown) || [])].reverse();
  const most = Math.max(...(state.attention || []).map(one => one.weight), 1e-9);
  by("seen").replaceChildren(...group.map(one => {
    const when = one.fresh ? "just now" : one.time === null ? "" : day(one.time, { day: "numeric", month: "short", year: "numeric" });
    const name = make("span", { className: "name" }, label(one));
    if (one.title) name.append(" ", make("span", { className: "soft", textContent: one.item }));
    const line = make("li", { tabIndex: -1 }, name, make("span", { className: "soft", textContent: when }));
    if (state.near.has(one.item)) line.className = "near";
    if (one.weight !== null) {
      const bar = make("span", { className: "weight" });
      bar.style.width = `${100 * one.weight / most}%`;
      bar.setAttribute("role", "img");
      bar.setAttribute("aria-label", `attention ${one.weight.toFixed(3)}`);
      line.append(bar);
    }
    return line;
  }));
}

function reveal(item) {
  turnTo("past");
  for (const [key, group] of state.groups) if (group.some(one => one.item === item)) state.shown = key;
  state.near = new Set([item]);
  showGroup();
  const line = by("seen").querySelector(".near");
  if (line) { line.scrollIntoView({ block: "center" }); line.focus(); }
}

// The page: whom it is about, what they are recommended, what they had.
const HISTORY = 200, ALIKE = 10, N = 20;
const state = {
  user: null, added: [], only: [], never: [], n: N, seenToo: false,
  history: [], intervals: 0, shown: null, near: new Set(), turn: 0,
};
const label = item => item.title || item.item;
const count = (n, what) => `${n.toLocaleString("en")} ${what}${n === 1 ? "" : "s"}`;
const day = (time, form) => new Date(time * 1000).toLocaleDateString("en-GB", { timeZone: "UTC", ...form });

const findItems = async text => (await call(`/v1/items?n=8&q=${encodeURIComponent(text)}`)).items;
const showItem = item => item.title ? [item.title, " ", make("span", { className: "soft", textContent: item.item })] : [item.item];
combobox(by("user"), by("users"),
  async text => (await call(`/v1/users?n=8&q=${encodeURIComponent(text)}`)).users,
  user => [user],
  user => choose(user ?? by("user").value.trim()));  // a field drops line breaks
for (const [field, list, into] of [["item", "items", "added"], ["only", "onlies", "only"], ["never", "nevers", "never"]]) {
  combobox(by(field), by(list), findItems, showItem, item => {
    put(into, item ?? { item: by(field).value.trim(), title: null });
    by(field).value = "";
  });
}
by("n").addEventListener("change", told(async () => { state.n = Number(by("n").value); await refresh(false); }));
by("seen-too").addEventListener("change", told(async () => { state.seenToo = by("seen-too").checked; await refresh(false); }));

function choose(id) { by("user").value = id; pick(id); }
const pick = told(async user => {
  state.user = user || null;
  state.shown = null;
  await refresh(true);
});
const put = told(async (into, item) => {
  if (into === "added" || !state[into].some(one => one.item === item.item)) state[into].push({ item: item.item, title: item.title });
  await refresh(false);
});
const drop = told(async (from, place, group, field) => {
  state[from].splice(place, 1);
  await refresh(false);
  (group.children[Math.min(place, state[from].length - 1)] || field).focus();
});

function turnTo(tab) {
  document.querySelector("main").dataset.tab = tab;
  for (const one of ["found", "past"]) {
    by(`tab-${one}`).setAttribute("aria-selected", String(one === tab));
    by(`tab-${one}`).tabIndex = one === tab ? 0 : -1;
  }
}
for (const [one, other] of [["found", "past"], ["past", "found"]]) {
  by(`tab-${one}`).addEventListener("click", () => turnTo(one));
  by(`tab-${one}`).addEventListener("keydown", event => {
    if (event.key === "ArrowLeft" || event.key === "ArrowRight") { turnTo(other); by(`tab-${other}`).focus(); }
  });
}

async function refresh(anew) {
  const mine = ++state.turn;
  calm();
  remember();
  const ids = items => items.map(one => one.item);
  const wanted = { items: ids(state.added), n: state.n, exclude_seen: !state.seenToo, block: ids(state.never), explain: true };
  if (state.user) wanted.user = state.user;
  if (state.only.length) wanted.allow = ids(state.only);
  showFilters();
  by("examples").hidden = Boolean(state.user) || !by("example-users").children.length;
  by("best").setAttribute("aria-busy", "true");
  try {
    await showAnswer(wanted, anew, mine);
  } finally {
    if (mine === state.turn) by("best").removeAttribute("aria-busy");
  }
}

async function showAnswer(wanted, anew, mine) {
  const found = await call("/v1/recommendations", wanted);
  if (mine !== state.turn) return;
  if (anew) {
    state.history = [];
    if (state.user && found.known_user) {
      const past = await call(`/v1/users/history?n=${HISTORY}&user=${encodeURIComponent(state.user)}`);
      if (mine !== state.turn) return;
      Object.assign(state, { history: past.history, intervals: past.intervals, whole: past.interactions });
    }
  }
  const skipped = new Set(found.skipped_items);
  state.attention = found.attention;
  state.after = state.added.filter(one => !skipped.has(one.item));
  state.near = new Set();
  showChips("added", by("added"), by("item"), skipped);
  showBest(found);
  showPast(found);
}

function showChips(from, group, field, skipped = new Set()) {
  group.replaceChildren(...state[from].map((item, place) => {
    const unknown = skipped.has(item.item);
    const name = make("span", { className: "cut", textContent: label(item) + (unknown ? " (unknown)" : "") });
    const chip = make("button", { type: "button", title: label(item) }, name, "✕");
    chip.setAttribute("aria-label", `Take away ${label(item)}`);
    chip.addEventListener("click", () => drop(from, place, group, field));
    return chip;
  }));
}

function showFilters() {
  showChips("only", by("only-chips"), by("only"));
  showChips("never", by("never-chips"), by("never"));
  by("n").value = String(state.n);
  by("seen-too").checked = state.seenToo;
  const parts = [count(state.n, "item"), state.seenToo ? "with what they have seen" : "without what they have seen"];
  if (state.only.length) parts.push(`only ${state.only.length} chosen`);
  if (state.never.length) parts.push(`never ${state.never.length}`);
  by("filters-note").textContent = `· ${parts.join(" · ")}`;
}

function remember() {
  const words = new URLSearchParams();
  if (state.user) words.set("user", state.user);
  for (const [word, from] of [["item", "added"], ["only", "only"], ["never", "never"]]) {
    state[from].forEach(one => words.append(word, one.item));
  }
  if (state.n !== N) words.set("n", state.n);
  if (state.seenToo) words.set("seen", "1");
  history.replaceState(null, "", `#${words}`);
}

async function showExamples() {
  const found = await call("/v1/users/examples");
  by("example-users").replaceChildren(...found.users.map(one => {
    const name = make("span", { className: "cut", textContent: one.user });
    const chip = make("button", { type: "button" }, name, make("span", { className: "soft", textContent: count(one.interactions, "item") }));
    chip.addEventListener("click", () => choose(one.user));
    return chip;
  }));
}

told(async () => {
  const health = await call("/healthz");
  by("run").textContent = `Run ${health.run} · ${count(health.users, "user")} · ${count(health.items, "item")} · version ${health.version}`;
  const words = new URLSearchParams(location.hash.slice(1));
  state.user = words.get("user");
  state.n = [...by("n").options].map(one => Number(one.value)).find(one => one === Number(words.get("n"))) || N;
  state.seenToo = words.has("seen");
  const known = async id => (await findItems(id)).find(one => one.item === id) || { item: id, title: null };
  for (const [word, into] of [["item", "added"], ["only", "only"], ["never", "never"]]) {
    state[into] = await Promise.all(words.getAll(word).map(known));
  }
  by("user").value = state.user || "";
  await showExamples();
  await refresh(true);
})();

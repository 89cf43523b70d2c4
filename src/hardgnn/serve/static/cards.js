// Cards: what is recommended, and what is similar to it.
function act(words, title, work) {
  const button = make("button", { type: "button", textContent: words });
  button.setAttribute("aria-label", title);
  button.addEventListener("click", work);
  return button;
}

function nameOf(one, more) {
  const name = make("div", { className: "name" }, label(one));
  name.append(make("span", { className: "soft", textContent: (one.title ? `${one.item} · ` : "") + more }));
  return name;
}

function showBest(found) {
  by("source").textContent = found.source;
  const parts = [found.meaning];
  if (state.user && !found.known_user) parts.unshift(`User ${state.user} is unknown`);
  if (found.approximate) parts.push("approximate search");
  if (found.skipped_items.length) parts.push(`skipped: ${found.skipped_items.join(", ")}`);
  if (!found.items.length) parts.push("nothing is left to recommend");
  by("note").textContent = parts.join(" · ");
  by("best").replaceChildren(...found.items.map(one => {
    const score = found.source === "popularity" && Number.isInteger(one.score) ? count(one.score, "interaction") : `score ${one.score.toFixed(3)}`;
    const seen = act("+ seen", `What if ${label(one)} had just been seen`, () => put("added", one));
    seen.classList.add("add");
    const acts = make("div", { className: "acts" }, seen,
      act("similar", `Items similar to ${label(one)}`, () => alike(one)),
      act("never", `Never recommend ${label(one)}`, () => put("never", one)));
    const line = make("li", {}, make("span", { className: "rank", textContent: one.rank }), nameOf(one, score), acts);
    const because = (one.because || []).filter(near => near.similarity > 0);  // the nearest may be far
    if (because.length) {
      const why = make("div", { className: "why soft" }, "near");
      because.forEach(near => {
        const name = make("span", { className: "cut", textContent: label(near) });
        const much = near.similarity < .01 ? "<0.01" : near.similarity.toFixed(2);
        const link = make("button", { type: "button", title: label(near) }, name, much);
        link.setAttribute("aria-label", `Show ${label(near)} in the history, similarity ${much}`);
        link.addEventListener("click", () => reveal(near.item));
        why.append(link);
      });
      line.append(why);
    }
    return line;
  }));
}

const alike = told(async item => {
  by("alike-title").textContent = `Similar to ${label(item)}`;
  by("alikes").replaceChildren();
  by("alike-error").textContent = "";
  if (!by("alike").open) by("alike").showModal();
  const found = await call(`/v1/items/similar?n=${ALIKE}&item=${encodeURIComponent(item.item)}`);
  by("alikes").replaceChildren(...found.similar.map((one, place) => {
    const acts = make("div", { className: "acts" },
      act("+ seen", `What if ${label(one)} had just been seen`, () => { by("alike").close(); put("added", one); }),
      act("similar", `Items similar to ${label(one)}`, () => alike(one)));
    return make("li", {}, make("span", { className: "rank", textContent: place + 1 }),
      nameOf(one, `similarity ${one.similarity.toFixed(2)}`), acts);
  }));
});

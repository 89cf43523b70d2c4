// A text field with a list of what the service finds: arrows move, Enter takes, Escape closes.
function combobox(input, list, find, show, take) {
  let options = [], at = -1, turn = 0, timer;
  const open = whether => { list.hidden = !whether; input.setAttribute("aria-expanded", String(whether)); };
  const mark = place => {
    at = place;
    [...list.children].forEach((option, number) => option.setAttribute("aria-selected", String(number === at)));
    if (at >= 0) { input.setAttribute("aria-activedescendant", list.children[at].id); list.children[at].scrollIntoView({ block: "nearest" }); }
    else input.removeAttribute("aria-activedescendant");
  };
  const chosen = option => { clearTimeout(timer); turn += 1; open(false); mark(-1); options = []; take(option); };
  const look = told(async () => {
    const mine = ++turn, found = await find(input.value.trim());
    if (mine !== turn) return;
    options = found;
    list.replaceChildren(...found.map((option, number) => {
      const line = make("li", { id: `${list.id}-${number}` }, ...show(option));
      line.setAttribute("role", "option");
      line.addEventListener("pointerdown", event => { event.preventDefault(); chosen(option); });
      return line;
    }));
    if (!found.length) {
      const none = make("li", { textContent: "Nothing found" });
      none.setAttribute("role", "option");
      none.setAttribute("aria-disabled", "true");
      list.append(none);
    }
    mark(-1);
    open(true);
  });
  input.addEventListener("input", () => {
    clearTimeout(timer);
    turn += 1;
    options = [];  // what was found for the text before is not what is typed now
    mark(-1);
    timer = setTimeout(look, 120);
  });
  input.addEventListener("focus", () => { if (!input.value) look(); });
  input.addEventListener("blur", () => { clearTimeout(timer); turn += 1; open(false); });
  input.addEventListener("keydown", event => {
    if (event.key === "ArrowDown" || event.key === "ArrowUp") {
      event.preventDefault();
      if (list.hidden || !options.length) { look(); return; }
      const step = event.key === "ArrowDown" ? 1 : -1;
      mark((at + step + options.length) % options.length);
    } else if (event.key === "Enter") {
      event.preventDefault();
      if (at >= 0) chosen(options[at]); else if (input.value.trim()) chosen(null);
    } else if (event.key === "Escape") { turn += 1; open(false); }
  });
}

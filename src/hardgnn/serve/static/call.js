"use strict";
// Asking the service, and telling what went wrong.
const by = id => document.getElementById(id);

function make(tag, words, ...parts) {
  const element = document.createElement(tag);
  Object.assign(element, words);
  element.append(...parts);
  return element;
}

async function call(path, body) {
  const headers = {}, token = sessionStorage.getItem("token");
  if (token) headers.Authorization = `Bearer ${token}`;
  if (body) headers["Content-Type"] = "application/json";
  let answer;
  try {
    answer = await fetch(path, { method: body ? "POST" : "GET", headers, body: body && JSON.stringify(body) });
  } catch {
    throw new Error("The service does not answer.");
  }
  if (answer.status === 401) { await askForToken(Boolean(token)); return call(path, body); }
  const found = await answer.json().catch(() => ({ error: `The service answered ${answer.status}.` }));
  if (!answer.ok) throw new Error(found.error);
  return found;
}

let asking = null;
function askForToken(wrong) {
  asking ??= new Promise(done => {
    by("ask-note").textContent = wrong ? "That token was refused." : "It is kept until this tab is closed.";
    by("token").value = "";
    by("ask").showModal();
    by("ask").addEventListener("close", () => {
      sessionStorage.setItem("token", by("token").value);
      asking = null;
      done();
    }, { once: true });
  });
  return asking;
}

// What work throws is told in the window, or in the dialog that is open.
function complain(message) {
  if (by("alike").open) { by("alike-error").textContent = message; return; }
  const away = make("button", { type: "button", textContent: "Dismiss" });
  away.addEventListener("click", calm);
  by("error").replaceChildren(make("span", { textContent: message }), away);
  by("error").hidden = false;
}
function calm() {
  by("error").replaceChildren();
  by("error").hidden = true;
  by("alike-error").textContent = "";
}
function told(work) {
  return async (...words) => {
    try {
      await work(...words);
    } catch (error) {
      complain(error.message);
    }
  };
}

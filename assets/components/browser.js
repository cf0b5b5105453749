/* What a page needs of the browser around it: a menu that closes, a Back that goes back, a theme that
   figures follow, and a cookie that says who is here. */
let shown = null;

/* On a narrow screen the opened menu lies over the page: once another page is chosen, close it, as a person would. */
function closeMenu(page) {
  const changed = shown !== null && shown !== page;
  shown = page;
  const menu = document.querySelector('[data-testid="stSidebar"]');
  if (!changed || window.innerWidth > 768 || !menu || menu.getBoundingClientRect().right < 50) return;
  document.querySelector('[data-testid="stSidebarCollapseButton"] button')?.click();
}

/* What a page notes in its link is no step of its own: one press of Back goes one page back. */
function oneStepAPage() {
  if (history.retouch) return;
  history.retouch = true;
  const push = history.pushState.bind(history);
  history.pushState = (state, title, url) => {
    const isSamePage = url && new URL(url, location.href).pathname === location.pathname;
    isSamePage ? history.replaceState(state, title, url) : push(state, title, url);
  };
}

/* A lesson shows how it is done: it presses the page's own buttons, one after the other, each ringed for a moment first. */
let showing = 0;
const pause = (ms) => new Promise((done) => setTimeout(done, ms));

function isBusy() {
  const app = document.querySelector('[data-testid="stApp"]');
  return app?.dataset.testScriptState === "running" || document.querySelector('[class*="st-key-status-cancel-"], [class*="st-key-running-"]');
}

function button(key) {
  const [name, word] = key.split("=");
  const all = [...document.querySelectorAll(`.st-key-${CSS.escape(name)} button:not([disabled])`)].filter((item) => item.offsetParent);
  return word === undefined ? all[0] : all.find((item) => item.textContent.trim() === word);
}

async function show([number, ...keys]) {
  showing = number;
  for (const key of keys) {
    let found = null;
    for (let quiet = 0, waited = 0; quiet < 3 && waited < 1200; waited += 1) {
      await pause(100);
      if (showing !== number) return;
      found = button(key);
      quiet = found && !isBusy() ? quiet + 1 : 0;
    }
    if (!found) return;
    found.scrollIntoView({ block: "center" });
    found.classList.add("shown-by-lesson");
    await pause(900);
    found.classList.remove("shown-by-lesson");
    if (showing !== number) return;
    (button(key) ?? found).click();
    await pause(600);
  }
}

/* Figures are drawn for a light or a dark ground, on the server: when the browser's turns, ask for the page anew. */
let watched = null, drawnDark = null, tell = null;

function followTheme(isDark, setTriggerValue) {
  drawnDark = isDark;
  tell = setTriggerValue;
  const app = document.querySelector('[data-testid="stApp"]');
  if (!app || app === watched) return;
  watched = app;
  const look = () => {
    const now = getComputedStyle(app).colorScheme === "dark";
    if (now === drawnDark) return;
    drawnDark = now;
    tell("theme", now);
  };
  new MutationObserver(look).observe(app, { attributes: true, attributeFilter: ["class"] });
}

export default function ({ data, setTriggerValue }) {
  followTheme(data.dark, setTriggerValue);
  closeMenu(data.page);
  oneStepAPage();
  const aYear = 365 * 24 * 3600;
  if (data.shows.length && data.shows[0] !== showing) show(data.shows);
  if (data.cookie) document.cookie = `${data.cookie}; path=/; max-age=${aYear}; SameSite=Strict`;
}

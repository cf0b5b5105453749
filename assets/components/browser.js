/* What a page needs of the browser around it: a menu that closes, a Back that goes back, and a cookie that says who is here. */
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

export default function ({ data }) {
  closeMenu(data.page);
  oneStepAPage();
  const aYear = 365 * 24 * 3600;
  if (data.cookie) document.cookie = `${data.cookie}; path=/; max-age=${aYear}; SameSite=Strict`;
}

/* On a narrow screen the opened menu lies over the page: once another page is chosen, close it, as a person would. */
let shown = null;

export default function ({ data }) {
  const changed = shown !== null && shown !== data.page;
  shown = data.page;
  const menu = document.querySelector('[data-testid="stSidebar"]');
  if (!changed || window.innerWidth > 768 || !menu || menu.getBoundingClientRect().right < 50) return;
  document.querySelector('[data-testid="stSidebarCollapseButton"] button')?.click();
}

// A text to edit and to copy. What is typed is told a moment after the last key; what comes back waits while somebody types.
const PAUSE_MS = 350;

export default function (component) {
  const { data, parentElement, setTriggerValue } = component;
  const area = parentElement.querySelector("textarea"), copy = parentElement.querySelector("button");
  area.setAttribute("aria-label", data.label);
  area.classList.toggle("wrong", data.wrong);
  area.dataset.told = data.text;
  const isTyping = () => area.getRootNode().activeElement === area;
  const show = () => {
    if (area.value !== area.dataset.told) area.value = area.dataset.told;
    area.rows = Math.min(24, Math.max(2, area.value.split("\n").length));
  };
  if (!isTyping()) show();
  area.oninput = () => {
    clearTimeout(area.timer);
    area.timer = setTimeout(() => setTriggerValue("typed", area.value), PAUSE_MS);
  };
  area.onblur = () => {
    clearTimeout(area.timer);
    if (area.value !== area.dataset.told) setTriggerValue("typed", area.value);
  };
  copy.onclick = async () => {
    await navigator.clipboard.writeText(area.value);
    copy.textContent = "Copied";
    setTimeout(() => { copy.textContent = "Copy"; }, 1500);
  };
}

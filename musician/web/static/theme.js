// Light or dark: the system's choice until the user makes one.

const KEPT = "musician.theme";
const system = matchMedia("(prefers-color-scheme: dark)");

/** Let `button` switch the colours. */
export function theme(button) {
  const show = () => {
    const chosen = localStorage.getItem(KEPT);
    const dark = chosen ? chosen === "dark" : system.matches;
    document.documentElement.dataset.theme = dark ? "dark" : "light";
    button.setAttribute("aria-pressed", String(dark));
  };
  button.addEventListener("click", () => {
    localStorage.setItem(KEPT, document.documentElement.dataset.theme === "dark" ? "light" : "dark");
    show();
  });
  system.addEventListener("change", show);
  show();
}

for (const figure of document.querySelectorAll(".compare")) {
  const stage = figure.querySelector(".stage"), range = stage.querySelector("input");
  const select = figure.querySelector("select"), say = figure.querySelector(".numbers");
  const move = () => stage.style.setProperty("--at", range.value + "%");
  const show = () => {
    for (const image of stage.querySelectorAll(".after")) image.hidden = image.dataset.method !== select.value;
    say.textContent = select.selectedOptions[0].dataset.numbers;
  };
  range.addEventListener("input", move);
  select.addEventListener("change", show);
  move();
  show();
}

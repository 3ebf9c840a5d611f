// The main journey in Firefox, over WebDriver BiDi: node firefox.mjs URL EXECUTABLE; the last line is "done".
import puppeteer from "puppeteer-core";

const [url, executablePath] = process.argv.slice(2);
const browser = await puppeteer.launch({ browser: "firefox", executablePath, headless: true, protocolTimeout: 300000 });
const done = ".zs-app:not(.zs-running)[data-state=result] #zs-verdict .zs-meter";
try {
  const page = await browser.newPage();
  await page.setViewport({ width: 1280, height: 900 });
  const wrong = [];
  page.on("pageerror", (error) => wrong.push(String(error)));
  await page.goto(`${url}/?example=two-spots`);
  await page.waitForSelector(done, { timeout: 120000 });
  const findings = () => page.$$eval(".zs-finding", (all) => all.map((row) => row.className));
  if ((await findings()).length !== 2) throw new Error("there are not two findings");
  await page.click(".zs-finding [data-do=reject]");
  await page.waitForSelector(".zs-finding.zs-out");
  await page.click('[data-stage="box"]');
  await page.waitForSelector("#zs-layer .zs-box");
  await page.click('[data-stage="box"]');
  await page.evaluate(() => scrollTo(0, 0));
  const box = await (await page.$("#zs-main")).boundingBox();
  await page.mouse.click(box.x + 30, box.y + 30);
  await page.waitForSelector("#zs-main [data-click]");
  await page.mouse.move(box.x + box.width / 2, box.y + box.height / 2);
  await page.mouse.wheel({ deltaY: -400 });
  await page.waitForFunction(() => document.querySelector("#zs-main").viewBox.baseVal.width < 300);
  await page.$eval("#zs-verdict .zs-tick", (tick) => { tick.value = 1; tick.dispatchEvent(new Event("input", { bubbles: true })); });
  await page.waitForFunction(() => document.querySelector(".zs-word").textContent !== "Anomalous");
  const report = await page.$eval("#zs-report", (link) => fetch(link.href).then((answer) => answer.text()));
  if (!report.includes("Inspection report")) throw new Error("there is no report");
  if (wrong.length) throw new Error(wrong.join("; "));
  console.log("done");
} finally {
  await browser.close();
}

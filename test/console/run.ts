// Tests the console in Chromium with real parties. `make console-test` runs it; see stage/main.go.
import { after } from "node:test";
import { startBrowser } from "./browser";
import { startStage } from "./stage";
import { testActions } from "./actions";
import { testKeyboard } from "./keyboard";
import { testLive } from "./live";
import { testLooks } from "./looks";
import { takePictures } from "./pictures";
import { testSignIn } from "./signin";

const { stage, stop } = await startStage();
const browser = await startBrowser();
after(async () => {
  await browser.close();
  await stop();
});

if (process.env.PICTURES) {
  takePictures(browser, stage, process.env.PICTURES);
} else {
  testLooks(browser, stage);
  testKeyboard(browser, stage);
  testSignIn(browser, stage);
  // Those that end the jobs of others come last.
  testLive(browser, stage);
  testActions(browser, stage);
}

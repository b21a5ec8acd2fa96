// Tests the console in Chromium with real parties. `make console-test` runs it; see stage/main.go.
import { after } from "node:test";
import { startBrowser } from "./browser";
import { startStage } from "./stage";
import { testActions } from "./actions";
import { testAttempts } from "./attempts";
import { testKeyboard } from "./keyboard";
import { testOIDC } from "./oidc";
import { testLive } from "./live";
import { testLoad } from "./load";
import { testLooks } from "./looks";
import { testOperators } from "./operators";
import { testPeriodic } from "./periodic";
import { takePictures } from "./pictures";
import { testPlots } from "./plots";
import { testProjects } from "./projects";
import { testSignIn } from "./signin";
import { testSubmit } from "./submit";

const { stage, stop } = await startStage();
const browser = await startBrowser();
after(async () => {
  await browser.close();
  await stop();
});

if (process.env.PICTURES) {
  takePictures(browser, stage, process.env.PICTURES);
} else if (process.env.LOAD) {
  testLoad(browser, stage);
} else {
  testLooks(browser, stage);
  testKeyboard(browser, stage);
  testSignIn(browser, stage);
  testProjects(browser, stage);
  testOIDC(browser, stage);
  testPeriodic(browser, stage);
  testPlots(browser, stage);
  testAttempts(browser, stage);
  testSubmit(browser, stage);
  testOperators(browser, stage);
  // Those that end the jobs of others come last.
  testLive(browser, stage);
  testActions(browser, stage);
}

import "./style.css";
import { render } from "preact";
import { App } from "./app";
import { load } from "./session";
import "./theme";

render(<App />, document.getElementById("app")!);
void load();

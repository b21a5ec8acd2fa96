// A list whose rows can be acted on: one table for all pages.
import { Fragment, type ComponentChildren } from "preact";
import { useState } from "preact/hooks";
import { t } from "../i18n";
import { Ask } from "./basic";

/** Action is what may be done with something, after a question. */
export interface Action {
  button: string;
  title: string;
  text: string;
  danger?: boolean;
  primary?: boolean;
  /** Asks for a reason, which do gets; it may be empty. */
  reason?: string;
  /** request names the request: one that is sent again in the same dialog, such as after a lost answer, has the same. */
  do: (reason: string, request: string) => Promise<unknown>;
}

/** requestID returns a new id for a request. crypto.randomUUID works over HTTPS only. */
function requestID(): string {
  return [...crypto.getRandomValues(new Uint8Array(16))].map((b) => b.toString(16).padStart(2, "0")).join("");
}

/** Actions shows a button for each action, and the question of the chosen one. name says to screen readers what it is about. */
export function Actions(props: { name: string; list: Action[]; done: () => void }) {
  const [chosen, setChosen] = useState<Action>();
  const [reason, setReason] = useState("");
  const [request, setRequest] = useState("");
  function open(a: Action) {
    setChosen(a);
    setRequest(requestID());
  }
  function close() {
    setChosen(undefined);
    setReason("");
  }
  return (
    <span class="job-actions">
      {props.list.map((a) => (
        <button key={a.button} type="button" class={a.primary ? "small primary" : "small"} onClick={() => open(a)}>
          {a.button}
          <span class="sr"> {props.name}</span>
        </button>
      ))}
      {chosen && (
        <Ask
          title={chosen.title}
          text={chosen.text}
          button={chosen.button}
          danger={chosen.danger ?? false}
          close={close}
          do={async () => {
            await chosen.do(reason, request);
            props.done();
          }}
        >
          {chosen.reason && (
            <label class="field">
              {chosen.reason}
              <input value={reason} onInput={(e) => setReason(e.currentTarget.value)} />
            </label>
          )}
        </Ask>
      )}
    </span>
  );
}

/** Column is a column of a table. */
export interface Column<T> {
  title: string;
  number?: boolean;
  /** Names the row; without any such column the first one does. */
  names?: boolean;
  /** Needs no title beside the cell at the width of a telephone. */
  plain?: boolean;
  class?: string;
  /** What a pointer on the cell shows. */
  hint?: (row: T) => string;
  cell: (row: T) => ComponentChildren;
}

function classOf<T>(c: Column<T>): string | undefined {
  return [c.number && "number", c.class].filter(Boolean).join(" ") || undefined;
}

/**
 * ActionTable lists rows with what may be done with each. At the width of a telephone each row becomes a block, in which
 * the columns' titles stand beside the cells.
 */
export function ActionTable<T>(props: {
  rows: T[];
  columns: Column<T>[];
  /** The key of a row among the others, also its id in the page with the prefix ids. */
  id: (row: T) => string;
  ids?: string;
  /** What screen readers call a row; its key if it is not given. */
  name?: (row: T) => string;
  actions?: (row: T) => Action[];
  /** What else is in the last cell of a row. */
  aside?: (row: T) => ComponentChildren;
  /** What is below a row, over its whole width. */
  more?: (row: T) => ComponentChildren;
  done?: () => void;
}) {
  const { columns, actions, aside, more, ids } = props;
  const acts = actions !== undefined || aside !== undefined;
  const heads = Math.max(0, columns.findIndex((c) => c.names));
  return (
    <table class="stack">
      <thead>
        <tr>
          {columns.map((c) => (
            <th key={c.title} scope="col" class={classOf(c)}>
              {c.title}
            </th>
          ))}
          {acts && (
            <th scope="col">
              <span class="sr">{t("jobs.actions")}</span>
            </th>
          )}
        </tr>
      </thead>
      <tbody>
        {props.rows.map((row) => {
          const id = props.id(row);
          return (
            <Fragment key={id}>
              <tr id={ids && ids + id} class={more && "has-more"}>
                {columns.map((c, i) =>
                  i === heads ? (
                    <th key={c.title} scope="row" class={c.class}>
                      {c.cell(row)}
                    </th>
                  ) : (
                    <td key={c.title} data-label={c.plain ? undefined : c.title} class={classOf(c)} title={c.hint?.(row)}>
                      {c.cell(row)}
                    </td>
                  ),
                )}
                {acts && (
                  <td class="row-actions">
                    {actions && <Actions name={props.name?.(row) ?? id} list={actions(row)} done={props.done ?? (() => {})} />}
                    {aside?.(row)}
                  </td>
                )}
              </tr>
              {more && (
                <tr class="more">
                  <td colSpan={columns.length + (acts ? 1 : 0)}>{more(row)}</td>
                </tr>
              )}
            </Fragment>
          );
        })}
      </tbody>
    </table>
  );
}

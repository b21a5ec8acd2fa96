import type { ComponentChildren } from "preact";

/** Remark is what is said beside a field: what is wrong with it, or what a party warns of. */
export interface Remark {
  error?: string;
  warning?: string;
}

/** Shared are the attributes that tie a control to its field. */
export interface Shared {
  id: string;
  "aria-invalid": "true" | undefined;
  "aria-describedby": string;
}

/** Field is a labelled control with what is wrong with it, and help, below. */
export function Field(props: {
  id: string;
  label: ComponentChildren;
  remark?: Remark | undefined;
  help?: ComponentChildren;
  children: (shared: Shared) => ComponentChildren;
}) {
  const about = `${props.id}-about`;
  const { error, warning } = props.remark ?? {};
  return (
    <div class="field">
      <label for={props.id}>{props.label}</label>
      {props.children({ id: props.id, "aria-invalid": error ? "true" : undefined, "aria-describedby": about })}
      <span id={about}>
        {error && (
          <span class="invalid" role="alert">
            {error}{" "}
          </span>
        )}
        {warning && <span class="warns">{warning} </span>}
        {props.help && <span class="help">{props.help}</span>}
      </span>
    </div>
  );
}

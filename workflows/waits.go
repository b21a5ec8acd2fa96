package workflows

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"go.temporal.io/sdk/workflow"

	"hutong/bfia"
)

// memoWaiting is the memo that says in Temporal's lists what a workflow waits for.
const memoWaiting = "waiting"

// slowCommand is how long a command may take before it counts as a wait.
const slowCommand = 5 * time.Second

// Waits holds what a job's workflow waits for. It shows that in Temporal's UI and has it recorded for the
// job's status. A wait has a key: beginning it again with other words keeps its time.
type Waits struct {
	node     string   // this party
	keys     []string // in the order in which the waits began
	waits    map[string]bfia.Waiting
	recorded []bfia.Waiting
	memo     string
	hasRow   bool // in which the waits are recorded
	keeping  bool // Keep runs
	writing  bool
	finished bool
}

// NewWaits returns the waits of a workflow of a party.
func NewWaits(node string) *Waits {
	return &Waits{node: node, waits: map[string]bfia.Waiting{}}
}

// SavedWaits is what one run of a workflow hands to the next of its waits.
type SavedWaits struct {
	Keys  []string                `json:"keys,omitempty"`
	Waits map[string]bfia.Waiting `json:"waits,omitempty"`
	Memo  string                  `json:"memo,omitempty"`
}

// Save returns the waits for the workflow's next run. They must be settled.
func (w *Waits) Save() SavedWaits { return SavedWaits{Keys: w.keys, Waits: w.waits, Memo: w.memo} }

// Restore sets the waits of the workflow's run before this one. The job's row and the memo say the same.
func (w *Waits) Restore(s SavedWaits) {
	w.keys, w.memo = s.Keys, s.Memo
	if s.Waits != nil {
		w.waits = s.Waits
	}
	w.SetRecorded(w.ToRecord())
}

// Settled reports whether the job's row and the workflow's memo say what the workflow waits for.
func (w *Waits) Settled() bool { return !w.writing && w.same() && w.memo == w.memoText() }

// Begin sets what the workflow waits for under a key.
func (w *Waits) Begin(ctx workflow.Context, key string, waiting bfia.Waiting) {
	if w.finished && waiting.Kind != bfia.WaitsForDatabase && waiting.Kind != bfia.WaitsForStorage {
		return
	}
	before, known := w.waits[key]
	if !known {
		w.keys = append(w.keys, key)
	}
	waiting.Since = workflow.Now(ctx)
	if known && before.Kind == waiting.Kind {
		waiting.Since = before.Since
	}
	w.waits[key] = waiting
}

// End removes a wait; there may be none.
func (w *Waits) End(key string) {
	if _, known := w.waits[key]; known {
		delete(w.waits, key)
		w.keys = slices.DeleteFunc(w.keys, func(k string) bool { return k == key })
	}
}

// List returns what the workflow waits for, in the order in which the waits began.
func (w *Waits) List() []bfia.Waiting {
	var list []bfia.Waiting
	for _, key := range w.keys {
		list = append(list, w.waits[key])
	}

	return list
}

// ToRecord returns the waits that the status cannot derive from other rows.
func (w *Waits) ToRecord() []bfia.Waiting {
	return slices.DeleteFunc(w.List(), func(waiting bfia.Waiting) bool {
		return waiting.Kind == bfia.WaitsForQueue || waiting.Kind == bfia.WaitsForResources
	})
}

// SetRecorded sets what the job's new row says. Before, the waits are only shown.
func (w *Waits) SetRecorded(waits []bfia.Waiting) { w.recorded, w.hasRow = waits, true }

// Finish ends all waits and waits until nothing shows one any more: neither the job's row nor the workflow's
// memo. From then on, only records count as waits: of commands that are still under way, nobody needs the
// answer.
func (w *Waits) Finish(ctx workflow.Context) {
	w.finished = true
	for _, key := range slices.Clone(w.keys) {
		w.End(key)
	}
	_ = workflow.Await(ctx, func() bool {
		return !w.keeping || w.Settled()
	})
}

// Forget is called before the job's row is deleted.
func (w *Waits) Forget() { w.hasRow = false }

// same reports whether the row says what the workflow waits for.
func (w *Waits) same() bool {
	return !w.hasRow || slices.EqualFunc(w.ToRecord(), w.recorded, sameWaiting)
}

func sameWaiting(a, b bfia.Waiting) bool { return a.Same(&b) }

// Markdown returns the waits for Temporal's UI.
func (w *Waits) Markdown() string {
	var b strings.Builder
	for _, waiting := range w.List() {
		fmt.Fprintf(&b, "- It %s\n", strings.ReplaceAll(waiting.String(), "\n", " "))
	}
	if b.Len() > 0 {
		b.WriteByte('\n')
	}

	return b.String()
}

// Keep has changes of the waits recorded, for as long as the workflow runs. It also shows them: as the memo
// of the workflow, and by calling show.
func (w *Waits) Keep(ctx workflow.Context, show func(),
	record func(ctx workflow.Context, now []bfia.Waiting)) {
	w.keeping = true
	defer func() { w.keeping = false }()
	for {
		changed := func() bool { return w.memo != w.memoText() || !w.same() }
		if err := workflow.Await(ctx, changed); err != nil {
			return
		}
		if memo := w.memoText(); memo != w.memo {
			w.memo = memo
			var value any // nil removes the memo
			if memo != "" {
				value = memo
			}
			_ = workflow.UpsertMemo(ctx, map[string]any{memoWaiting: value})
		}
		show()
		if now := w.ToRecord(); !w.same() {
			w.writing = true
			record(ctx, now)
			w.recorded, w.writing = now, false
		}
	}
}

// memoText says what the workflow waits for, and for whom. It leaves out what changes often, such as a
// position in a queue, since each change of a memo is an event of the history.
func (w *Waits) memoText() string {
	var texts []string
	for _, waiting := range w.List() {
		text := (&bfia.Waiting{Kind: waiting.Kind}).Text()
		if waiting.NodeID != "" && waiting.NodeID != w.node {
			text += " at " + waiting.NodeID
		}
		texts = append(texts, text+" since "+waiting.Since.UTC().Format(time.RFC3339))
	}

	return strings.Join(texts, "; ")
}

type waitsKey struct{}

// WithWaits returns a context in which slow commands and records count as waits.
func WithWaits(ctx workflow.Context, w *Waits) workflow.Context {
	return workflow.WithValue(ctx, waitsKey{}, w)
}

// WithoutWaits returns a context in which commands and records do not count as waits, because the workflow
// says itself what it waits for, or continues without their answer.
func WithoutWaits(ctx workflow.Context) workflow.Context { return WithWaits(ctx, nil) }

func waitsOf(ctx workflow.Context) *Waits {
	w, _ := ctx.Value(waitsKey{}).(*Waits)

	return w
}

// waitForCommand notes a command as a wait until its future is ready.
func (w *Waits) waitForCommand(ctx workflow.Context, id string, limit time.Duration, in any, first error,
	f workflow.Future,
) {
	if first == nil && !AwaitFor(ctx, slowCommand, f.IsReady) && ctx.Err() == nil || first != nil {
		text := "has no answer yet to: " + id
		if first != nil {
			text = fmt.Sprintf("tries again to %s: %s", id, Reason(first))
		}
		until := workflow.Now(ctx).Add(limit)
		waiting := bfia.Waiting{Kind: bfia.WaitsForPartner, Message: text, Until: &until}
		if to, ok := in.(interface{ Party() string }); ok {
			waiting.NodeID = to.Party()
		}
		w.Begin(ctx, id, waiting)
	}
	_ = f.Get(ctx, nil)
	w.End(id)
}

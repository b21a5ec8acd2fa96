package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/charmbracelet/x/ansi"
	"github.com/spf13/cobra"
	"golang.org/x/term"

	"hutong/bfia"
)

const (
	// fastPoll is the polling interval of a watched job during its first minute, slowPoll the one after that.
	fastPoll     = 300 * time.Millisecond
	slowPoll     = time.Second
	fastPollTime = time.Minute
	// maxOutage is how long a watcher keeps trying while the party does not answer.
	maxOutage = 5 * time.Minute
	// redrawInterval updates the durations in the picture.
	redrawInterval = 100 * time.Millisecond
)

// watcher shows the progress of a job.
type watcher interface {
	// show shows a status. While the party does not answer, it gets the last known status and a note about
	// the outage.
	show(status *bfia.JobStatus, now time.Time, note string) error
	// close shows the last status. Other lines can follow it.
	close(status *bfia.JobStatus, now time.Time) error
}

// watch shows a job until it has ended, then prints a summary. It returns errSaid if a task did not succeed.
func (c *client) watch(cmd *cobra.Command, jobID string) error {
	ctx, cancel := untilSignal(cmd.Context())
	defer cancel()

	out := cmd.OutOrStdout()
	var w watcher = &lines{w: out}
	v := view{width: noLimit}
	if screen := terminal(out); screen != nil {
		v.colour = c.stdoutColour
		w = &picture{w: out, colour: v.colour, size: func() (int, int) { return screenSize(screen) }}
	}

	status, err := c.follow(ctx, jobID, w)
	if ctx.Err() != nil && (status == nil || !ended(status)) {
		_, _ = fmt.Fprintf(cmd.ErrOrStderr(),
			"Stopped watching; job %s continues. Stop it with 'hutong job stop %s'.\n", jobID, jobID)
		return errSaid
	}
	if err != nil {
		return err
	}

	if _, err := fmt.Fprintln(out, strings.Join(summary(status, v), "\n")); err != nil {
		return err
	}
	if !succeeded(status) {
		return errSaid
	}

	return nil
}

// statusResult is the result of one poll.
type statusResult struct {
	status *bfia.JobStatus
	err    error
}

// follow polls a job until it has ended, and returns its last status.
func (c *client) follow(ctx context.Context, jobID string, w watcher) (*bfia.JobStatus, error) {
	status, err := c.status(ctx, jobID)
	if err != nil {
		return nil, err
	}

	results := make(chan statusResult, 1)
	started := time.Now()
	lastAnswer, note := started, ""
	redraw := time.NewTicker(redrawInterval)
	defer redraw.Stop()
	poll := time.NewTimer(fastPoll)
	defer poll.Stop()

	for {
		now := time.Now()
		if ended(status) {
			return status, w.close(status, now)
		}
		if err := w.show(status, now, note); err != nil {
			return status, err
		}

		select {
		case <-ctx.Done():
			return status, w.close(status, now)

		case <-redraw.C:
			if note != "" {
				note = outageNote(time.Since(lastAnswer))
			}

		case <-poll.C:
			// Polling in the background keeps the picture's clock running during a slow answer.
			go func() {
				status, err := c.status(ctx, jobID)
				results <- statusResult{status, err}
			}()

		case r := <-results:
			switch {
			case r.err == nil:
				status, lastAnswer, note = r.status, time.Now(), ""
			case ctx.Err() != nil:
			case !isRetryable(r.err) || time.Since(lastAnswer) > maxOutage:
				_ = w.close(status, time.Now()) // the party's error is more useful than the terminal's
				return status, r.err
			default:
				note = outageNote(time.Since(lastAnswer))
			}

			if time.Since(started) < fastPollTime {
				poll.Reset(fastPoll)
			} else {
				poll.Reset(slowPoll)
			}
		}
	}
}

func outageNote(d time.Duration) string {
	return fmt.Sprintf("no answer for %s, retrying", duration(d.Truncate(time.Second)))
}

// lines prints each change as a line with a timestamp, for logs and pipes.
type lines struct {
	w      io.Writer
	last   *bfia.JobStatus
	outage bool
}

func (l *lines) show(status *bfia.JobStatus, now time.Time, note string) error {
	printed := changes(l.last, status)
	l.last = status
	if (note != "") != l.outage {
		if l.outage = note != ""; l.outage {
			printed = append(printed, "the party does not answer, retrying")
		} else {
			printed = append(printed, "the party answers again")
		}
	}

	var out strings.Builder
	for _, change := range printed {
		out.WriteString(now.UTC().Format("2006-01-02T15:04:05.000Z") + " " + change + "\n")
	}
	_, err := io.WriteString(l.w, out.String())

	return err
}

func (l *lines) close(status *bfia.JobStatus, now time.Time) error { return l.show(status, now, "") }

// changes describes the differences between two statuses of a job. A nil before means a job without any
// status.
func changes(before, after *bfia.JobStatus) []string {
	var out []string
	add := func(what, state, reason string) {
		if reason = plain(reason); reason != "" {
			state += ": " + reason
		}
		out = append(out, plain(what)+" "+state)
	}

	if before == nil {
		before = &bfia.JobStatus{}
	}
	jobDone := before.State == after.State && before.Reason == after.Reason
	for _, w := range after.Waiting {
		if !slices.ContainsFunc(before.Waiting, func(b bfia.Waiting) bool { return b.Same(&w) }) {
			add("job "+after.JobID, string(after.State), w.Text())
			jobDone = true
		}
	}
	if !jobDone && !ended(after) {
		add("job "+after.JobID, string(after.State), after.Reason)
	}

	for _, r := range rows(after.Tasks) {
		old := findTask(before, r.task.Name)
		if old.TaskID != "" && r.task.Attempt > max(old.Attempt, 1) {
			why := ""
			if n := len(r.task.Attempts); n > 0 {
				why = attemptEnd(&r.task.Attempts[n-1])
			}
			add("task "+r.task.Name, fmt.Sprintf("is retried, attempt %d", r.task.Attempt), why)
		}
		for _, p := range r.task.Parties {
			was := findPart(old, p)
			part := fmt.Sprintf("task %s %s at %s", r.task.Name, partName(p), p.NodeID)
			if reason := ownReason(p); was.State != p.State || ownReason(was) != reason {
				add(part, string(p.State), reason)
			}
			if p.Waiting != nil && !p.Waiting.Same(was.Waiting) {
				add(part, string(p.State), p.Waiting.Text())
			}
		}
		if old.State != r.task.State {
			add("task "+r.task.Name, string(r.task.State), "")
		}
		if w := r.task.Waiting; w != nil && w.Kind != bfia.WaitsForInputs && !w.Same(old.Waiting) {
			add("task "+r.task.Name, string(r.task.State), w.Text())
		}
	}

	// The end of a job follows the end of the task that caused it. Its summary has the reason.
	if before.State != after.State && ended(after) {
		add("job "+after.JobID, stateOf(after), "")
	}

	return out
}

// ownReason returns why a part failed. A part that was stopped with its job has no reason of its own.
func ownReason(p bfia.PartStatus) string {
	if p.Failure != nil && p.Failure.Kind == bfia.FailedStopped {
		return ""
	}

	return p.Reason
}

func findTask(status *bfia.JobStatus, name string) bfia.TaskStatus {
	for _, t := range status.Tasks {
		if t.Name == name {
			return t
		}
	}

	return bfia.TaskStatus{}
}

func findPart(t bfia.TaskStatus, like bfia.PartStatus) bfia.PartStatus {
	for _, p := range t.Parties {
		if partName(p) == partName(like) && p.NodeID == like.NodeID {
			return p
		}
	}

	return bfia.PartStatus{}
}

// picture draws the job on a terminal, each time over the previous picture. It writes each picture in one
// call and overwrites lines instead of clearing them first, so that nothing flickers.
type picture struct {
	w      io.Writer
	colour bool
	size   func() (width, height int)
	drawn  []string
}

func (p *picture) show(status *bfia.JobStatus, now time.Time, note string) error {
	width, height := p.size()

	// The last column stays empty, because some terminals wrap the line there.
	return p.put(
		draw(status, now, view{width: max(width-1, 1), height: height - 1, colour: p.colour, note: note}),
		width,
	)
}

// close draws the last picture with all tasks, also those that did not fit on a low terminal.
func (p *picture) close(status *bfia.JobStatus, now time.Time) error {
	width, _ := p.size()
	return p.put(draw(status, now, view{width: max(width-1, 1), colour: p.colour}), width)
}

func (p *picture) put(picture []string, width int) error {
	var out strings.Builder
	if up := terminalLines(p.drawn, width); up > 0 {
		out.WriteString(ansi.CursorUp(up))
	}
	out.WriteString("\r")
	for _, l := range picture {
		out.WriteString(l + ansi.EraseLineRight + "\r\n")
	}
	out.WriteString(ansi.EraseScreenBelow)

	p.drawn = picture
	_, err := io.WriteString(p.w, out.String())

	return err
}

// terminalLines returns how many lines a picture occupies on a terminal of the given width. A terminal that
// became narrower has wrapped the longer ones.
func terminalLines(picture []string, width int) (n int) {
	for _, l := range picture {
		n += max(1, (ansi.StringWidth(l)+width-1)/max(width, 1))
	}

	return n
}

// terminal returns w as a terminal, or nil if it is none.
func terminal(w io.Writer) *os.File {
	file, ok := w.(*os.File)
	if !ok || !term.IsTerminal(int(file.Fd())) {
		return nil
	}

	return file
}

// screenSize returns a terminal's size, or 80 by 24 if the terminal does not report it.
func screenSize(screen *os.File) (width, height int) {
	width, height, err := term.GetSize(int(screen.Fd()))
	if err != nil || width <= 0 || height <= 0 {
		return 80, 24
	}

	return width, height
}

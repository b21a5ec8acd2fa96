package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	"hutong/bfia"
)

// How often a job is asked for: quickly at first, when there is someone who looks.
const (
	pollQuick  = 300 * time.Millisecond
	pollSlow   = time.Second
	quickUntil = time.Minute
	// patience is how long a party may not answer before a watcher gives up.
	patience = 5 * time.Minute
	// redraw is the picture's own clock.
	redraw = 100 * time.Millisecond
)

// watcher shows a job as it goes.
type watcher interface {
	// show is given each status, the last one that is known while the party does not answer; note says that it doesn't.
	show(status *bfia.JobStatus, now time.Time, note string) error
	// close ends the picture, so that other lines can follow it.
	close(status *bfia.JobStatus, now time.Time) error
}

// watch shows a job until it has ended and then says how. errSaid is a job that did not go well.
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
		_, _ = fmt.Fprintf(cmd.ErrOrStderr(), "No longer watched; job %s goes on. Stop it with 'hutong job stop %s'.\n", jobID, jobID)
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

// follow asks for a job until it has ended, and gives its last status.
func (c *client) follow(ctx context.Context, jobID string, w watcher) (*bfia.JobStatus, error) {
	status, err := c.status(ctx, jobID)
	if err != nil {
		return nil, err
	}
	answers := make(chan answer, 1)
	began := time.Now()
	lastAnswer, note := began, ""
	tick := time.NewTicker(redraw)
	defer tick.Stop()
	poll := time.NewTimer(pollQuick)
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
		case <-tick.C:
			if note != "" {
				note = noAnswerNote(time.Since(lastAnswer))
			}
		case <-poll.C:
			// In the background: an answer that takes its time does not stop the clock.
			go func() {
				status, err := c.status(ctx, jobID)
				answers <- answer{status, err}
			}()
		case a := <-answers:
			switch {
			case a.err == nil:
				status, lastAnswer, note = a.status, time.Now(), ""
			case ctx.Err() != nil:
			case !passing(a.err) || time.Since(lastAnswer) > patience:
				return status, joinClose(a.err, w.close(status, time.Now()))
			default:
				note = noAnswerNote(time.Since(lastAnswer))
			}
			if time.Since(began) < quickUntil {
				poll.Reset(pollQuick)
			} else {
				poll.Reset(pollSlow)
			}
		}
	}
}

type answer struct {
	status *bfia.JobStatus
	err    error
}

// joinClose prefers the error that came first.
func joinClose(first, second error) error {
	if first != nil {
		return first
	}
	return second
}

func noAnswerNote(d time.Duration) string {
	return fmt.Sprintf("no answer for %s, trying again", duration(d.Truncate(time.Second)))
}

// lines tells each change on a line of its own, for logs and pipes.
type lines struct {
	w    io.Writer
	last *bfia.JobStatus
	note bool
}

func (l *lines) show(status *bfia.JobStatus, now time.Time, note string) error {
	told := changes(l.last, status)
	l.last = status
	if (note != "") != l.note {
		if l.note = note != ""; l.note {
			told = append(told, "the party does not answer; trying again")
		} else {
			told = append(told, "the party answers again")
		}
	}
	var out strings.Builder
	for _, change := range told {
		out.WriteString(now.UTC().Format("2006-01-02T15:04:05.000Z") + " " + change + "\n")
	}
	_, err := io.WriteString(l.w, out.String())
	return err
}

func (l *lines) close(status *bfia.JobStatus, now time.Time) error { return l.show(status, now, "") }

// changes are what is different between two statuses of a job; nil is a job of which nothing was told yet.
func changes(before, after *bfia.JobStatus) []string {
	var out []string
	tell := func(what, state, reason string) {
		if reason = plain(reason); reason != "" {
			state += ": " + reason
		}
		out = append(out, plain(what)+" "+state)
	}
	if before == nil {
		before = &bfia.JobStatus{}
	}
	jobTold := before.State == after.State && before.Reason == after.Reason
	if waits := after.Queued.String(); waits != "" && waits != before.Queued.String() {
		tell("job "+after.JobID, string(after.State), waits)
		jobTold = true
	}
	if !jobTold && !ended(after) {
		tell("job "+after.JobID, string(after.State), after.Reason)
	}
	for _, r := range rows(after.Tasks) {
		old := findTask(before, r.task.Name)
		if old.TaskID != "" && r.task.Attempt > max(old.Attempt, 1) {
			tell("task "+r.task.Name, fmt.Sprintf("begins again, attempt %d", r.task.Attempt), "")
		}
		for _, p := range r.task.Parties {
			was := findPart(old, p)
			if was.State != p.State || was.Reason != p.Reason {
				tell(fmt.Sprintf("task %s %s at %s", r.task.Name, partName(p), p.NodeID), string(p.State), p.Reason)
			}
		}
		if old.State != r.task.State || old.Reason != r.task.Reason {
			tell("task "+r.task.Name, string(r.task.State), r.task.Reason)
		}
	}
	if !jobTold && ended(after) { // what ended it stands before its end
		tell("job "+after.JobID, string(after.State), after.Reason)
	}
	return out
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

// picture draws the job on a terminal, each time over the time before. All of a picture is one write, and nothing is
// cleared before it is drawn over, so it does not flicker.
type picture struct {
	w      io.Writer
	colour bool
	size   func() (width, height int)
	drawn  []string
}

func (p *picture) show(status *bfia.JobStatus, now time.Time, note string) error {
	width, height := p.size()
	// The last column stays empty: some terminals break the line there.
	return p.put(draw(status, now, view{width: max(width-1, 1), height: height - 1, colour: p.colour, note: note}), width)
}

// close leaves the last picture whole, also what a low terminal could not show.
func (p *picture) close(status *bfia.JobStatus, now time.Time) error {
	width, _ := p.size()
	return p.put(draw(status, now, view{width: max(width-1, 1), colour: p.colour}), width)
}

func (p *picture) put(picture []string, width int) error {
	var out strings.Builder
	if up := linesTaken(p.drawn, width); up > 0 {
		fmt.Fprintf(&out, "\x1b[%dA", up)
	}
	out.WriteString("\r")
	for _, l := range picture {
		out.WriteString(l + "\x1b[K\r\n")
	}
	out.WriteString("\x1b[J")
	p.drawn = picture
	_, err := io.WriteString(p.w, out.String())
	return err
}

// linesTaken is how many lines of the terminal a picture takes now: one that became narrower has broken them.
func linesTaken(picture []string, width int) (n int) {
	for _, l := range picture {
		n += max(1, (visible(l)+width-1)/max(width, 1))
	}
	return n
}

// terminal is the terminal that w is, nil if it is none.
func terminal(w io.Writer) *os.File {
	file, ok := w.(*os.File)
	if !ok || !term.IsTerminal(int(file.Fd())) {
		return nil
	}
	return file
}

// screenSize is a terminal's, and a usual one's where it does not tell.
func screenSize(screen *os.File) (width, height int) {
	width, height, err := term.GetSize(int(screen.Fd()))
	if err != nil || width <= 0 || height <= 0 {
		return 80, 24
	}
	return width, height
}

package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/url"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/charmbracelet/x/ansi"
	"github.com/spf13/cobra"

	"hutong/bfia"
)

func newJobLogs(c *client) *cobra.Command {
	var l logReader
	var follow bool
	cmd := &cobra.Command{
		Use:   "logs ID",
		Short: "Print the logs of a job's tasks at this party",
		Long: "Prints the logs of a job's tasks at this party: what their containers wrote to standard output and\n" +
			"error, and to files under config.log.path. -f also prints new lines until the job has ended.\n\n" +
			"If a task was repeated, the log is that of its latest attempt, unless --attempt names another.",
		Example: "  hutong job logs 202601021200000000001 --task intersect_rsa_1 --level debug\n" +
			"  hutong job logs 202601021200000000001 --task intersect_rsa_1 --attempt 1 --level error",
		Args: exactly("ID"),
		RunE: func(cmd *cobra.Command, args []string) error {
			l.client, l.out = c, cmd.OutOrStdout()
			status, err := c.status(cmd.Context(), args[0])
			if err != nil {
				return err
			}
			if cmd.Flags().Changed("attempt") && l.attempt < 1 {
				return errors.New("--attempt: attempts are numbered from 1")
			}
			if err := l.selectTask(status, args[0]); err != nil {
				return err
			}
			if err := c.checkRole(cmd.Context(), status, l.role); err != nil {
				return err
			}
			if follow {
				ctx, cancel := untilSignal(cmd.Context())
				defer cancel()
				return l.follow(ctx, args[0])
			}
			return l.read(cmd.Context(), status)
		},
	}
	cmd.Flags().StringVar(&l.task, "task", "", "only this task, by its name or by the id of one of its attempts")
	numberFlag(cmd.Flags(), &l.attempt, "attempt", 0, 0, "this attempt of the tasks (default: the latest)")
	cmd.Flags().StringVar(&l.role, "role", "",
		"only this role, such as guest.0 (default: all roles of this party)")
	choiceFlag(cmd, &l.level, "level", "", "info", "lowest level to print", "debug", "info", "warning",
		"error")
	cmd.Flags().BoolVarP(&follow, "follow", "f", false, "print new lines until the job has ended")
	return cmd
}

// selectTask finds the task that --task names, by its name or by the id of one of its attempts.
func (l *logReader) selectTask(status *bfia.JobStatus, jobID string) error {
	names := taskNames(status)
	if l.task == "" || len(names) == 0 || slices.Contains(names, l.task) {
		return nil
	}
	for _, t := range status.Tasks {
		for attempt := 1; attempt <= max(t.Attempt, 1); attempt++ {
			if l.task == bfia.AttemptID(jobID, t.Name, attempt) {
				l.task, l.attempt = t.Name, attempt
				return nil
			}
		}
		if l.task == t.TaskID {
			l.task = t.Name
			return nil
		}
	}
	return unknownTask(jobID, l.task, names)
}

func taskNames(status *bfia.JobStatus) []string {
	var names []string
	for _, t := range status.Tasks {
		names = append(names, t.Name)
	}
	return names
}

// logPage is the number of lines in one request.
const logPage = 10000

// logReader prints logs.
type logReader struct {
	client            *client
	out               io.Writer
	task, role, level string
	attempt           int    // 0: the latest
	heading           string // heading of the last printed line
	bar               progressLine
}

// logSource is the log of one part of a task, with the number of lines already printed.
type logSource struct {
	role, taskID string
	printed      int
}

// read prints the logs that exist now: of each task, for all roles of this party or for one.
func (l *logReader) read(ctx context.Context, status *bfia.JobStatus) error {
	tasks := slices.DeleteFunc(slices.Clone(status.Tasks), func(t bfia.TaskStatus) bool {
		return l.task != "" && t.Name != l.task || t.TaskID == "" // it has not started
	})
	var missing error
	found := len(tasks) == 0
	for _, t := range tasks {
		heading := ""
		if len(tasks) > 1 {
			heading = t.Name
		}
		source := &logSource{role: l.role, taskID: t.TaskID}
		answer, err := l.print(ctx, source, heading, true)
		var no *refused
		if errors.As(err, &no) && no.code == bfia.CodeNotFound {
			missing = err // this party has no part in the task or the role, or no such attempt
			continue
		}
		if err != nil {
			return fmt.Errorf("failed to read the log of task %s: %w", t.Name, err)
		}
		found = true
		for _, line := range answer.Unfinished {
			if _, err := fmt.Fprintln(l.out, plainLog(line)); err != nil {
				return err
			}
		}
	}
	if !found {
		return missing
	}
	return nil
}

const (
	// followInterval is the polling interval of a followed log.
	followInterval = 250 * time.Millisecond
	// maxQuiet is how long follow waits for new lines after the job's end if the party does not report that
	// the logs are complete.
	maxQuiet = 10 * time.Second
)

// follow prints the lines of each part as they arrive, until the job has ended and its logs are complete.
func (l *logReader) follow(ctx context.Context, jobID string) error {
	l.bar = progressLine{out: l.out, screen: terminal(l.out)}
	defer l.bar.clear()
	sources := map[string]*logSource{}
	lastLine, lastAnswer := time.Now(), time.Now()
	tick := time.NewTicker(followInterval)
	defer tick.Stop()
	for {
		status, err := l.client.status(ctx, jobID)
		complete := false
		if err == nil {
			var lines int
			lines, complete, err = l.printNew(ctx, status, sources)
			if lines > 0 {
				lastLine = time.Now()
			}
		}
		switch {
		case ctx.Err() != nil:
			return nil // interrupted by the user
		case err == nil:
			lastAnswer = time.Now()
			if ended(status) && (complete || time.Since(lastLine) > maxQuiet) {
				return nil
			}
		case !isRetryable(err) || time.Since(lastAnswer) > maxOutage:
			return err
		}
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
	}
}

// printNew prints the new lines of each part at this party. complete reports that all of these logs have
// ended.
func (l *logReader) printNew(ctx context.Context, status *bfia.JobStatus, sources map[string]*logSource) (
	lines int, complete bool, err error) {
	complete = true
	var unfinished []string
	for _, t := range status.Tasks {
		if t.TaskID == "" || l.task != "" && t.Name != l.task {
			continue
		}
		for _, part := range t.Parties {
			role := bfia.Part{Role: part.Role, Index: part.Index}.Self()
			if l.role != "" && l.role != role && l.role != part.Role {
				continue
			}
			key := t.TaskID + " " + role // each attempt has an id of its own
			source := sources[key]
			if source == nil {
				source = &logSource{role: role, taskID: t.TaskID}
				sources[key] = source
			}
			heading := t.Name + " " + role
			if t.Attempt > 1 && l.attempt == 0 {
				heading = fmt.Sprintf("%s, attempt %d", heading, t.Attempt)
			}
			before := source.printed
			answer, err := l.print(ctx, source, heading, false)
			lines += source.printed - before
			var no *refused
			if errors.As(err, &no) && no.code == bfia.CodeNotFound {
				continue // the part belongs to another party, or has not started here
			}
			if err != nil {
				return lines, false, err
			}
			complete = complete && answer.Complete
			unfinished = append(unfinished, answer.Unfinished...)
		}
	}
	return lines, complete, l.bar.show(strings.Join(unfinished, "  "), time.Now())
}

// logCount is a party's answer to a request for the number of lines.
type logCount struct {
	Num        int      `json:"num"`
	Complete   bool     `json:"complete"`   // the log has ended
	Unfinished []string `json:"unfinished"` // lines that are not ended yet
}

// print prints the new lines of one source. It prints the heading if the previous lines came from another
// source, with always set even without lines.
func (l *logReader) print(ctx context.Context, s *logSource, heading string, always bool) (logCount, error) {
	query := url.Values{"task_id": {s.taskID}, "log_level": {l.level}}
	if s.role != "" {
		query.Set("role", s.role)
	}
	if l.attempt > 0 {
		query.Set("attempt", strconv.Itoa(l.attempt))
	}
	var count logCount
	if err := l.client.get(ctx, bfia.PathPlatformLogLines, query, &count); err != nil {
		return count, err
	}
	if always || count.Num > s.printed {
		l.bar.clear()
		if heading != l.heading && heading != "" {
			if _, err := fmt.Fprintf(l.out, "==> %s <==\n", plain(heading)); err != nil {
				return count, err
			}
			l.heading = heading
		}
	}
	query.Set("length", strconv.Itoa(logPage))
	for s.printed < count.Num {
		query.Set("start", strconv.Itoa(s.printed))
		var page struct {
			Data logLines `json:"data"`
		}
		if err := l.client.get(ctx, bfia.PathPlatformLog, query, &page); err != nil {
			return count, err
		}
		if len(page.Data) == 0 {
			return count, nil
		}
		for _, line := range page.Data {
			if _, err := fmt.Fprintln(l.out, plainLog(line)); err != nil {
				return count, err
			}
		}
		s.printed += len(page.Data)
	}
	return count, nil
}

// progressLine shows lines that are not ended yet, such as progress bars. On a terminal it draws them below
// the log. Elsewhere it prints their state every progressEvery.
type progressLine struct {
	out    io.Writer
	screen *os.File // nil: no terminal
	shown  string
	at     time.Time
}

// progressEvery is how often progress is printed where nothing can be drawn.
const progressEvery = 5 * time.Second

func (p *progressLine) show(text string, now time.Time) error {
	text = plainLog(text)
	if text == p.shown || text == "" && p.screen == nil {
		return nil
	}
	if p.screen == nil {
		if now.Sub(p.at) < progressEvery {
			return nil
		}
		p.shown, p.at = text, now
		_, err := fmt.Fprintln(p.out, text)
		return err
	}
	p.clear()
	p.shown = text
	width, _ := screenSize(p.screen)
	_, err := io.WriteString(p.out, ansi.Truncate(text, width-1, "…"))
	return err
}

// clear removes what is drawn.
func (p *progressLine) clear() {
	if p.screen != nil && p.shown != "" {
		_, _ = io.WriteString(p.out, "\r"+ansi.EraseLineRight)
		p.shown = ""
	}
}

// logLines are the lines of a get_log response. The specification has one string; FATE-Flow has a list of
// strings, or of objects with line numbers.
type logLines []string

// UnmarshalJSON accepts a string with all lines, a list of strings, and a list of objects with a content.
func (l *logLines) UnmarshalJSON(b []byte) error {
	var text string
	if json.Unmarshal(b, &text) == nil {
		if *l = nil; text != "" {
			*l = strings.Split(strings.TrimSuffix(text, "\n"), "\n")
		}
		return nil
	}
	var list []json.RawMessage
	if err := json.Unmarshal(b, &list); err != nil {
		return fmt.Errorf("data: must be a string or a list of lines: %w", err)
	}
	*l = nil
	for _, raw := range list {
		var line string
		var numbered struct {
			Content string `json:"content"`
		}
		if json.Unmarshal(raw, &line) != nil {
			if err := json.Unmarshal(raw, &numbered); err != nil {
				return fmt.Errorf("data: a line must be a string or an object: %w", err)
			}
			line = numbered.Content
		}
		*l = append(*l, strings.TrimSuffix(line, "\n"))
	}
	return nil
}

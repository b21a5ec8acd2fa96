package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"hutong/bfia"
)

func newJobLogs(c *client) *cobra.Command {
	var l logReader
	var follow bool
	cmd := &cobra.Command{
		Use:   "logs ID",
		Short: "Print what a job's tasks have logged at this party",
		Long: "Prints what a job's tasks have logged at this party. With -f it goes on with what they log from now on, until the\n" +
			"job has ended.",
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			l.client, l.out = c, cmd.OutOrStdout()
			status, err := c.status(cmd.Context(), args[0])
			if err != nil {
				return err
			}
			if names := taskNames(status); l.task != "" && len(names) > 0 && !slices.Contains(names, l.task) {
				return fmt.Errorf("job %s has no task %q; its tasks: %s", args[0], l.task, strings.Join(names, ", "))
			}
			if follow {
				ctx, cancel := untilSignal(cmd.Context())
				defer cancel()
				return l.follow(ctx, args[0])
			}
			return l.read(cmd.Context(), status)
		},
	}
	cmd.Flags().StringVar(&l.task, "task", "", "only this task")
	cmd.Flags().StringVar(&l.role, "role", "", "only this role, such as guest.0 (default: all that this party has)")
	cmd.Flags().StringVar(&l.level, "level", "info", "debug, info, warning or error: lines of this level and above")
	cmd.Flags().BoolVarP(&follow, "follow", "f", false, "go on until the job has ended")
	return cmd
}

func taskNames(status *bfia.JobStatus) []string {
	var names []string
	for _, t := range status.Tasks {
		names = append(names, t.Name)
	}
	return names
}

// logPage is how many lines are asked for at once.
const logPage = 10000

// logReader prints logs.
type logReader struct {
	client            *client
	out               io.Writer
	task, role, level string
	heading           string // under which the last line stands
}

// logSource is the log of one part of a task, and how much of it is printed.
type logSource struct {
	task, role, taskID string
	printed            int
}

// read prints what is there: each task's, of all the roles that this party has, or of one.
func (l *logReader) read(ctx context.Context, status *bfia.JobStatus) error {
	tasks := slices.DeleteFunc(slices.Clone(status.Tasks), func(t bfia.TaskStatus) bool { return l.task != "" && t.Name != l.task })
	for _, t := range tasks {
		if t.TaskID == "" {
			continue // it has not begun
		}
		heading := ""
		if len(tasks) > 1 {
			heading = t.Name
		}
		source := &logSource{task: t.Name, role: l.role, taskID: t.TaskID}
		_, err := l.print(ctx, source, heading, true)
		var no *refused
		if len(tasks) > 1 && errors.As(err, &no) && no.code == bfia.CodeNotFound {
			continue // a task, or a role of it, that this party has no part in
		}
		if err != nil {
			return fmt.Errorf("task %s: %w", t.Name, err)
		}
	}
	return nil
}

const (
	// followEvery is how often a log that is followed is asked for.
	followEvery = 500 * time.Millisecond
	// quietAfter is how long after a job's end the rest of a log is waited for that is not said to be whole.
	quietAfter = 10 * time.Second
)

// follow prints each part's lines as they come, until the job has ended and its logs are whole.
func (l *logReader) follow(ctx context.Context, jobID string) error {
	sources := map[string]*logSource{}
	lastLine, lastAnswer := time.Now(), time.Now()
	tick := time.NewTicker(followEvery)
	defer tick.Stop()
	for {
		status, err := l.client.status(ctx, jobID)
		whole := false
		if err == nil {
			var lines int
			lines, whole, err = l.printNew(ctx, status, sources)
			if lines > 0 {
				lastLine = time.Now()
			}
		}
		switch {
		case ctx.Err() != nil:
			return nil // who follows has seen enough
		case err == nil:
			lastAnswer = time.Now()
			if ended(status) && (whole || time.Since(lastLine) > quietAfter) {
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

// printNew prints what is new of each part that this party has. whole tells that nothing more will come of them.
func (l *logReader) printNew(ctx context.Context, status *bfia.JobStatus, sources map[string]*logSource) (lines int, whole bool, err error) {
	whole = true
	for _, t := range status.Tasks {
		if t.TaskID == "" || l.task != "" && t.Name != l.task {
			continue
		}
		for _, part := range t.Parties {
			role := bfia.Part{Role: part.Role, Index: part.Index}.Self()
			if l.role != "" && l.role != role && l.role != part.Role {
				continue
			}
			source := sources[t.Name+" "+role]
			if source == nil {
				source = &logSource{task: t.Name, role: role, taskID: t.TaskID}
				sources[t.Name+" "+role] = source
			}
			before := source.printed
			complete, err := l.print(ctx, source, t.Name+" "+role, false)
			lines += source.printed - before
			var no *refused
			if errors.As(err, &no) && no.code == bfia.CodeNotFound {
				continue // another party's, or it has not begun here
			}
			if err != nil {
				return lines, false, err
			}
			whole = whole && complete
		}
	}
	return lines, whole, nil
}

// print prints what is new of one source, under its heading when another's lines stand before; always prints the heading
// also where there are no lines. complete tells that the party says that nothing more will come.
func (l *logReader) print(ctx context.Context, s *logSource, heading string, always bool) (complete bool, err error) {
	query := url.Values{"task_id": {s.taskID}, "log_level": {l.level}}
	if s.role != "" {
		query.Set("role", s.role)
	}
	var count struct {
		Num      int  `json:"num"`
		Complete bool `json:"complete"`
	}
	if err := l.client.get(ctx, bfia.PathPlatformLogLines, query, &count); err != nil {
		return false, err
	}
	if heading != l.heading && heading != "" && (always || count.Num > s.printed) {
		if _, err := fmt.Fprintf(l.out, "==> %s <==\n", plain(heading)); err != nil {
			return false, err
		}
		l.heading = heading
	}
	query.Set("length", strconv.Itoa(logPage))
	for s.printed < count.Num {
		query.Set("start", strconv.Itoa(s.printed))
		var page struct {
			Data logLines `json:"data"`
		}
		if err := l.client.get(ctx, bfia.PathPlatformLog, query, &page); err != nil {
			return false, err
		}
		if len(page.Data) == 0 {
			return count.Complete, nil
		}
		for _, line := range page.Data {
			if _, err := fmt.Fprintln(l.out, plainLog(line)); err != nil {
				return false, err
			}
		}
		s.printed += len(page.Data)
	}
	return count.Complete, nil
}

// logLines are the lines of get_log: a string in the specification, a list from FATE-Flow, there with or without numbers.
type logLines []string

// UnmarshalJSON takes any of the forms.
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
		return fmt.Errorf("data is neither a string nor a list of lines: %w", err)
	}
	*l = nil
	for _, raw := range list {
		var line string
		var numbered struct {
			Content string `json:"content"`
		}
		if json.Unmarshal(raw, &line) != nil {
			if err := json.Unmarshal(raw, &numbered); err != nil {
				return fmt.Errorf("a line of the log is neither a string nor an object: %w", err)
			}
			line = numbered.Content
		}
		*l = append(*l, strings.TrimSuffix(line, "\n"))
	}
	return nil
}

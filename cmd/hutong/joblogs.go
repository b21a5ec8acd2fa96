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
		Short: "Print the logs of a job's tasks at this party",
		Long: "Prints the logs of a job's tasks at this party. -f also prints new lines until the job\n" +
			"has ended.",
		Example: "  hutong job logs 202601021200000000001 --task intersect_rsa_1 --level debug",
		Args:    exactly("ID"),
		RunE: func(cmd *cobra.Command, args []string) error {
			l.client, l.out = c, cmd.OutOrStdout()
			status, err := c.status(cmd.Context(), args[0])
			if err != nil {
				return err
			}
			if names := taskNames(status); l.task != "" && len(names) > 0 && !slices.Contains(names, l.task) {
				return unknownTask(args[0], l.task, names)
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
	cmd.Flags().StringVar(&l.task, "task", "", "only this task")
	cmd.Flags().StringVar(&l.role, "role", "",
		"only this role, such as guest.0 (default: all roles of this party)")
	choiceFlag(cmd, &l.level, "level", "", "info", "lowest level to print", "debug", "info", "warning",
		"error")
	cmd.Flags().BoolVarP(&follow, "follow", "f", false, "print new lines until the job has ended")
	return cmd
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
	heading           string // heading of the last printed line
}

// logSource is the log of one part of a task, with the number of lines already printed.
type logSource struct {
	task, role, taskID string
	printed            int
}

// read prints the logs that exist now: of each task, for all roles of this party or for one.
func (l *logReader) read(ctx context.Context, status *bfia.JobStatus) error {
	tasks := slices.DeleteFunc(slices.Clone(status.Tasks), func(t bfia.TaskStatus) bool {
		return l.task != "" && t.Name != l.task
	})
	for _, t := range tasks {
		if t.TaskID == "" {
			continue // it has not started
		}
		heading := ""
		if len(tasks) > 1 {
			heading = t.Name
		}
		source := &logSource{task: t.Name, role: l.role, taskID: t.TaskID}
		_, err := l.print(ctx, source, heading, true)
		var no *refused
		if len(tasks) > 1 && errors.As(err, &no) && no.code == bfia.CodeNotFound {
			continue // this party has no part in the task or the role
		}
		if err != nil {
			return fmt.Errorf("failed to read the log of task %s: %w", t.Name, err)
		}
	}
	return nil
}

const (
	// followInterval is the polling interval of a followed log.
	followInterval = 500 * time.Millisecond
	// maxQuiet is how long follow waits for new lines after the job's end if the party does not report that
	// the logs are complete.
	maxQuiet = 10 * time.Second
)

// follow prints the lines of each part as they arrive, until the job has ended and its logs are complete.
func (l *logReader) follow(ctx context.Context, jobID string) error {
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
			ended, err := l.print(ctx, source, t.Name+" "+role, false)
			lines += source.printed - before
			var no *refused
			if errors.As(err, &no) && no.code == bfia.CodeNotFound {
				continue // the part belongs to another party, or has not started here
			}
			if err != nil {
				return lines, false, err
			}
			complete = complete && ended
		}
	}
	return lines, complete, nil
}

// print prints the new lines of one source. It prints the heading if the previous lines came from another
// source, with always set even without lines. complete is the party's report that the log has ended.
func (l *logReader) print(ctx context.Context, s *logSource, heading string,
	always bool) (complete bool, err error) {
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

package api

import (
	"bufio"
	"cmp"
	"context"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"github.com/gofiber/fiber/v2"

	"hutong/activities/logline"
	"hutong/bfia"
	"hutong/fateflow/fateclient"
	"hutong/internal/audit"
	"hutong/store"
)

// fateLog is what a request of FATE's clients for a log asks for.
type fateLog struct {
	level    logline.Level
	schedule bool // of the job's scheduling, not of its tasks
	jobID    string
	tasks    []store.Task
}

// fateLog reads the parameters of a request for a log. Without role, party_id and task_name it is the log of
// all of this party's parts.
func (s *Server) fateLog(c *fiber.Ctx) (*fateLog, func(string) string, error) {
	get, err := s.params(c)
	if err != nil {
		return nil, nil, err
	}
	l := &fateLog{jobID: get("job_id")}
	if err := bfia.CheckID("job_id", l.jobID); err != nil {
		return nil, nil, err
	}
	kind, word, _ := strings.Cut(get("log_type"), "_")
	known := false
	if l.level, known = logline.ParseLevel(word); !known || kind != "task" && kind != "schedule" {
		return nil, nil, bfia.Errorf(bfia.CodeBadRequest,
			"log_type: %q is none of task_error, task_warning, task_info, task_debug, schedule_info, "+
				"schedule_error", get("log_type"))
	}
	l.schedule = kind == "schedule"
	if l.tasks, err = s.partsOfJob(c.UserContext(), l.jobID, get); err != nil {
		return nil, nil, err
	}
	return l, get, s.recordRead(c.UserContext(), l.jobID)
}

// partsOfJob returns this party's parts of a job's tasks that pass the filters task_name, role and party_id.
func (s *Server) partsOfJob(ctx context.Context, jobID string, get func(string) string) ([]store.Task,
	error) {
	if _, err := s.anyJob(ctx, jobID); err != nil {
		return nil, unknownJob(err, jobID, s.Node)
	}
	tasks, err := s.store.Tasks(ctx, jobID)
	return slices.DeleteFunc(tasks, func(t store.Task) bool {
		task, role, party := get("task_name"), get("role"), get("party_id")
		return task != "" && task != t.Name || role != "" && role != t.Role || party != "" && party != s.Node
	}), err
}

// fateLogCount returns the number of lines of a log.
func (s *Server) fateLogCount(c *fiber.Ctx) error {
	log, _, err := s.fateLog(c)
	if err != nil {
		return err
	}
	n := 0
	if err := s.eachLine(c.UserContext(), log, 1<<31-1, func(string) bool { return true }, &n); err != nil {
		return err
	}
	return okFATE(c, n, nil)
}

// logLine is a line of a log.
type logLine struct {
	Number  int    `json:"line_num"`
	Content string `json:"content"`
}

// fateLogQuery returns the lines of a log from begin to end; the first line is line 1.
func (s *Server) fateLogQuery(c *fiber.Ctx) error {
	log, get, err := s.fateLog(c)
	if err != nil {
		return err
	}
	begin, err := number(get, "begin", 1, 0, 1<<31-1)
	if err != nil {
		return err
	}
	end, err := number(get, "end", 1<<31-1, 0, 1<<31-1)
	if err != nil {
		return err
	}
	begin = max(1, begin)
	lines, size, skipped := []logLine{}, 0, 0
	if end >= begin {
		visit := func(line string) bool {
			lines = append(lines, logLine{begin + len(lines), line})
			size += len(line)
			return begin+len(lines) <= end && size < maxLogBytes
		}
		if err := s.eachLine(c.UserContext(), log, begin-1, visit, &skipped); err != nil {
			return err
		}
	}
	return okFATE(c, lines, nil)
}

// eachLine visits the lines of a log, without the first start ones, until visit returns false. It adds the
// number of lines that it skipped to skipped.
func (s *Server) eachLine(ctx context.Context, log *fateLog, start int, visit func(string) bool, skipped *int,
) error {
	more := true
	stoppable := func(line string) bool {
		more = visit(line)
		return more
	}
	if log.schedule {
		lines, err := s.scheduleLog(ctx, log.jobID, log.level)
		if err != nil {
			return err
		}
		for i, line := range lines {
			if i < start {
				*skipped++
			} else if !stoppable(line) {
				break
			}
		}
		return nil
	}
	for _, t := range log.tasks {
		part := logPart{taskID: t.TaskID, container: t.ContainerName}
		reader, err := s.openLog(ctx, part)
		if err != nil {
			return err
		}
		if reader == nil {
			continue
		}
		n, err := reader.read(ctx, log.level, start, stoppable)
		if err != nil {
			return unreadable(part, err)
		}
		start -= n
		if *skipped += n; !more {
			break
		}
	}
	return nil
}

// scheduleLog returns what happened to a job at this party, in the form of a log: a line for each change of a
// state.
func (s *Server) scheduleLog(ctx context.Context, jobID string, level logline.Level) ([]string, error) {
	type event struct {
		at    time.Time
		level logline.Level
		text  string
	}
	job, err := s.anyJob(ctx, jobID)
	if err != nil {
		return nil, unknownJob(err, jobID, s.Node)
	}
	tasks, err := s.store.Tasks(ctx, jobID)
	if err != nil {
		return nil, err
	}

	events := []event{{job.CreatedAt, logline.Info, "job " + jobID + " is created"}}
	add := func(at *time.Time, level logline.Level, format string, args ...any) {
		if at != nil {
			events = append(events, event{*at, level, fmt.Sprintf(format, args...)})
		}
	}
	add(job.StartedAt, logline.Info, "job %s starts", jobID)
	for _, t := range tasks {
		self := bfia.Part{Role: t.Role, Index: t.RoleIndex}.Self()
		add(t.StartedAt, logline.Info, "task %s %s starts, attempt %d", t.Name, self, max(1, t.Attempt))
		if t.State == bfia.TaskFailed {
			why := t.Reason
			if f := failureOf(t); f != nil {
				why = f.String()
			}
			add(t.EndedAt, logline.Error, "task %s %s fails: %s", t.Name, self, why)
		} else {
			add(t.EndedAt, logline.Info, "task %s %s ends: %s", t.Name, self, t.State)
		}
	}
	status := fateclient.StatusOfJob(job.State, job.Outcome)
	switch {
	case status == fateclient.Success:
		add(job.EndedAt, logline.Info, "job %s ends: success", jobID)
	case job.Failure != nil:
		add(job.EndedAt, logline.Error, "job %s ends: %s: %s", jobID, status, job.Failure)
	default:
		add(job.EndedAt, logline.Error, "job %s ends: %s: %s", jobID, status, job.Reason)
	}

	slices.SortStableFunc(events, func(a, b event) int { return a.at.Compare(b.at) })
	lines := []string{}
	for _, e := range events {
		if e.level < level {
			continue
		}
		word := "INFO"
		if e.level == logline.Error {
			word = "ERROR"
		}
		text := strings.ReplaceAll(e.text, "\n", " | ")
		lines = append(lines, e.at.UTC().Format("2006-01-02 15:04:05.000")+" "+word+" "+text)
	}
	return lines, nil
}

// fateLogDownload sends all logs of a job at this party, in folders as FATE-Flow keeps them.
func (s *Server) fateLogDownload(c *fiber.Ctx) error {
	var ref bfia.JobRef
	if err := s.readJSON(c, &ref); err != nil {
		return err
	}
	if err := bfia.CheckID("job_id", ref.JobID); err != nil {
		return err
	}
	tasks, err := s.partsOfJob(c.UserContext(), ref.JobID, func(string) string { return "" })
	if err != nil {
		return err
	}
	on(c.UserContext(), audit.Job, ref.JobID)
	if err := s.recordAct(c.UserContext()); err != nil {
		return err
	}
	return s.sendArchive(c, true, func(ctx context.Context, to *archive) error {
		for _, log := range []struct {
			name  string
			level logline.Level
		}{{"schedule_info", logline.Info}, {"schedule_error", logline.Error}} {
			err := to.addLog(ctx, log.name+".log", &fateLog{schedule: true, jobID: ref.JobID,
				level: log.level})
			if err != nil {
				return err
			}
		}
		for _, t := range tasks {
			folder := strings.Join([]string{t.Role, s.Node, t.Name, "root"}, "/")
			for name, level := range map[string]logline.Level{"DEBUG": logline.Debug, "INFO": logline.Info,
				"WARNING": logline.Warning, "ERROR": logline.Error} {
				err := to.addLog(ctx, folder+"/"+name, &fateLog{level: level, tasks: []store.Task{t}})
				if err != nil {
					return err
				}
			}
		}
		return nil
	})
}

// addLog adds the lines of a log.
func (a *archive) addLog(ctx context.Context, name string, log *fateLog) error {
	return a.addFunc(name, func(w io.Writer) error {
		buffered := bufio.NewWriter(w)
		skipped := 0
		var failed error
		err := a.server.eachLine(ctx, log, 0, func(line string) bool {
			_, failed = buffered.WriteString(line + "\n")
			return failed == nil
		}, &skipped)
		if err != nil || failed != nil {
			return cmp.Or(err, failed)
		}
		return buffered.Flush()
	})
}

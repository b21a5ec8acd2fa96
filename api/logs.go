package api

import (
	"context"
	"strconv"
	"strings"

	"github.com/gofiber/fiber/v2"

	"hutong/activities"
	"hutong/activities/logline"
	"hutong/bfia"
)

// maxLogBytes bounds one answer of get_log. A client gets the rest with further requests.
const maxLogBytes = 4 << 20

// countLogLines returns the number of lines of a level in a task's log (part 2, 5.4). Hutong adds complete,
// which says that no more will follow, the attempt, and the lines that the containers have not ended yet.
func (s *Server) countLogLines(c *fiber.Ctx) error {
	query, err := s.logQuery(c)
	if err != nil {
		return err
	}
	num := 0
	unfinished := []string{}
	for _, part := range query.parts {
		log, err := s.openLog(c.UserContext(), part)
		if err != nil {
			return err
		}
		if log == nil {
			continue
		}
		n, err := log.count(c.UserContext(), query.level)
		if err != nil {
			return unreadable(part, err)
		}
		num += n
		if line := log.unfinishedLine(c.UserContext(), query.level); line != "" && !part.complete {
			unfinished = append(unfinished, line)
		}
	}
	return answer(c, "success",
		map[string]any{"num": num, "complete": query.complete(), "attempt": query.attempt,
			"unfinished": unfinished},
		map[string]any{"num": num})
}

// readLog returns lines of a task's log (part 2, 5.5): at most length lines, from line start on. The first
// line is line 0. Without length it returns all that follow.
func (s *Server) readLog(c *fiber.Ctx) error {
	query, err := s.logQuery(c)
	if err != nil {
		return err
	}
	start, err := number(query.get, "start", 0, 0, 1<<31-1)
	if err != nil {
		return err
	}
	length, err := number(query.get, "length", 1<<31-1, 0, 1<<31-1)
	if err != nil {
		return err
	}

	var text strings.Builder
	for _, part := range query.parts {
		if length == 0 || text.Len() >= maxLogBytes {
			break
		}
		log, err := s.openLog(c.UserContext(), part)
		if err != nil {
			return err
		}
		if log == nil {
			continue
		}
		skipped, err := log.read(c.UserContext(), query.level, start, func(line string) bool {
			if text.Len() > 0 {
				text.WriteByte('\n')
			}
			text.WriteString(line)
			length--
			return length > 0 && text.Len() < maxLogBytes
		})
		if err != nil {
			return unreadable(part, err)
		}
		start -= skipped
	}
	return ok(c, map[string]any{"data": text.String()})
}

// logQuery is what a request for a log asks for.
type logQuery struct {
	get     func(string) string
	level   logline.Level
	parts   []logPart
	attempt int
}

// logPart is one attempt of one part of a task.
type logPart struct {
	taskID, container string
	complete          bool // its log has ended
}

func (q *logQuery) complete() bool {
	for _, part := range q.parts {
		if !part.complete {
			return false
		}
	}
	return true
}

// logQuery reads the parameters of a request for a log: task_id, of any attempt, or with the attempt's
// number; role, by default all of this party; and the lowest level.
func (s *Server) logQuery(c *fiber.Ctx) (*logQuery, error) {
	get, err := s.params(c)
	if err != nil {
		return nil, err
	}
	q := &logQuery{get: get, level: logline.Info}
	if word := get("log_level"); word != "" {
		level, valid := logline.ParseLevel(word)
		if !valid {
			return nil, bfia.Errorf(bfia.CodeBadRequest,
				"log_level: %q is none of debug, info, warning, error", word)
		}
		q.level = level
	}
	attempt, err := number(get, "attempt", 0, 1, 1<<31-1)
	if err != nil {
		return nil, err
	}
	attempts, err := s.taskAttempts(c.UserContext(), get("task_id"), get("role"), attempt)
	if err != nil {
		return nil, err
	}
	for _, t := range attempts {
		if err := s.recordRead(c.UserContext(), t.JobID); err != nil {
			return nil, err
		}
		// An exit is recorded after the end of the log. A part that ended without a container has no exit.
		complete := t.State.Terminal() && (t.ContainerName == "" || t.ExitCode != nil)
		q.parts = append(q.parts, logPart{taskID: t.TaskID, container: t.ContainerName, complete: complete})
		q.attempt = t.Attempt
	}
	return q, nil
}

// openLog opens the log of a part, or returns nil if it has none yet.
func (s *Server) openLog(ctx context.Context, part logPart) (*logReader, error) {
	if part.container == "" {
		return nil, nil // it has not started
	}
	log, err := activities.OpenLog(ctx, s.blobs, part.container)
	if err != nil {
		return nil, bfia.Wrap(bfia.CodeUnavailable, err, "the storage of %s does not answer; try again later",
			s.Node)
	}
	return &logReader{Log: log, index: &s.logIndex}, nil
}

func unreadable(part logPart, err error) error {
	return bfia.Wrap(bfia.CodeUnavailable, err, "failed to read the log of task %s", part.taskID)
}

// number reads an integer from a request's parameters.
func number(get func(string) string, name string, unset, least, most int) (int, error) {
	value := get(name)
	if value == "" || value == "null" {
		return unset, nil
	}
	n, err := strconv.Atoi(value)
	if err != nil || n < least || n > most {
		return 0, bfia.Errorf(bfia.CodeBadRequest, "%s: %q is not an integer from %d to %d", name, value,
			least, most)
	}
	return n, nil
}

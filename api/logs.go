package api

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"regexp"
	"strconv"
	"strings"

	"github.com/gofiber/fiber/v2"

	"hutong/activities"
	"hutong/bfia"
)

// maxLogBytes bounds one answer of get_log. A client gets the rest with further requests.
const maxLogBytes = 4 << 20

// countLogLines returns the number of lines of a level in a task's log (part 2, 5.4). complete, Hutong's
// addition, says that no more will follow.
func (s *Server) countLogLines(c *fiber.Ctx) error {
	get, err := s.params(c)
	if err != nil {
		return err
	}
	num := 0
	complete, err := s.eachLogLine(c.UserContext(), get, func(string) bool { num++; return true })
	if err != nil {
		return err
	}
	return answer(c, "success", map[string]any{"num": num, "complete": complete}, map[string]any{"num": num})
}

// readLog returns lines of a task's log (part 2, 5.5): at most length lines, from line start on. The first
// line is line 0. Without length it returns all that follow.
func (s *Server) readLog(c *fiber.Ctx) error {
	get, err := s.params(c)
	if err != nil {
		return err
	}
	start, err := number(get, "start", 0, 0, 1<<31-1)
	if err != nil {
		return err
	}
	length, err := number(get, "length", 1<<31-1, 0, 1<<31-1)
	if err != nil {
		return err
	}

	var text strings.Builder
	n := 0
	_, err = s.eachLogLine(c.UserContext(), get, func(line string) bool {
		if n >= start && n < start+length {
			if text.Len() > 0 {
				text.WriteByte('\n')
			}
			text.WriteString(line)
		}
		n++
		return n < start+length && text.Len() < maxLogBytes
	})
	if err != nil {
		return err
	}
	return ok(c, map[string]any{"data": text.String()})
}

// eachLogLine visits the lines of a task's log at this party that have the requested level or a higher one:
// of one role, or of all roles of this party, one after the other. complete reports that their containers had
// ended.
func (s *Server) eachLogLine(ctx context.Context, get func(string) string,
	visit func(string) bool) (complete bool, err error) {
	level, valid := logLevels[strings.ToLower(get("log_level"))]
	if !valid {
		return false, bfia.Errorf(bfia.CodeBadRequest, "log_level: %q is none of debug, info, warning, error",
			get("log_level"))
	}
	tasks, err := s.tasksByID(ctx, get("task_id"), get("role"))
	if err != nil {
		return false, err
	}
	complete = true
	for _, t := range tasks {
		// An exit is recorded after the end of the log. A part that ended without a container has no exit.
		complete = complete && t.State.Terminal() && (t.ContainerName == "" || t.ExitCode != nil)
		if t.ContainerName == "" {
			continue // it has not started, so it has no log
		}
		log, err := activities.ReadLog(ctx, s.blobs, t.ContainerName)
		if err != nil {
			return false, bfia.Wrap(bfia.CodeUnavailable, err,
				"the storage of %s does not answer; try again later", s.Node)
		}
		more, err := scanLog(log, level, visit)
		_ = log.Close()
		if err != nil {
			return false, bfia.Wrap(bfia.CodeUnavailable, err, "failed to read the log of task %s", t.TaskID)
		}
		if !more {
			return false, nil
		}
	}
	return complete, nil
}

// scanLog visits the lines of a log that have a level or a higher one, until visit returns false.
func scanLog(r io.Reader, level int, visit func(string) bool) (more bool, err error) {
	br := bufio.NewReaderSize(r, maxLogLine)
	last := logLevels["info"]
	for {
		line, cut, err := readLogLine(br)
		if text := strings.TrimRight(string(line), "\r\n"); text != "" {
			last = lineLevel(text, last)
			if cut {
				text += "…"
			}
			if last >= level && !visit(strings.ToValidUTF8(text, "\uFFFD")) {
				return false, nil
			}
		}
		if errors.Is(err, io.EOF) {
			return true, nil
		}
		if err != nil {
			return false, err
		}
	}
}

// maxLogLine bounds the bytes of a line that are returned. A container may write endless lines.
const maxLogLine = 64 << 10

// readLogLine reads a line and returns what fits into the reader's buffer. The result is valid until the next
// read.
func readLogLine(br *bufio.Reader) (line []byte, cut bool, err error) {
	line, err = br.ReadSlice('\n')
	if !errors.Is(err, bufio.ErrBufferFull) {
		return line, false, err
	}
	line = bytes.Clone(line)
	for errors.Is(err, bufio.ErrBufferFull) {
		_, err = br.ReadSlice('\n')
	}
	return line, true, err
}

var logLevels = map[string]int{"": 1, "debug": 0, "trace": 0, "info": 1, "notice": 1, "warning": 2, "warn": 2,
	"error": 3, "fatal": 3, "critical": 3, "panic": 3}

// levelWord finds a level in a line's text: as a field, in brackets, or as the first word, in any case. Later
// in the text only capitals count, since prose mentions errors too.
var levelWord = func() *regexp.Regexp {
	const words = "debug|trace|info|notice|warning|warn|error|fatal|critical|panic"
	return regexp.MustCompile(`(?:(?i:\blevel=|\[|^)"?(?i:(` + words + `))|\s(` + strings.ToUpper(words) +
		`))\b`)
}()

// lineLevel returns the level of a line: of JSON its level field, otherwise one named near its start. A line
// without a level, such as one of a stack trace, has that of the line before it.
func lineLevel(line string, last int) int {
	_, text, ok := strings.Cut(line, " ") // after the time
	if !ok {
		return last
	}
	if strings.HasPrefix(text, "{") {
		var fields map[string]json.RawMessage
		if json.Unmarshal([]byte(text), &fields) == nil {
			if l, ok := jsonLevel(fields); ok {
				return l
			}
			return last // words elsewhere in it are not its level
		}
	}
	if m := levelWord.FindStringSubmatch(text[:min(len(text), 120)]); m != nil {
		return logLevels[strings.ToLower(m[1]+m[2])]
	}
	return last
}

// levelFields lists the fields in which loggers write the level of a JSON line, in any case.
var levelFields = []string{"level", "lvl", "severity", "levelname", "log_level", "loglevel", "log.level",
	"@level", "l"}

// jsonLevel returns the level in a line's fields.
func jsonLevel(fields map[string]json.RawMessage) (int, bool) {
	for _, name := range levelFields {
		for key, raw := range fields {
			if !strings.EqualFold(key, name) {
				continue
			}
			word := strings.ToLower(text(raw))
			if l, ok := logLevels[word]; ok && word != "" {
				return l, true
			}
		}
	}
	return 0, false
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

package conformance

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"strings"

	"hutong/bfia"
)

// logs returns the checks of the logs of a finished task.
func logs() []Check {
	return []Check{
		{
			"GET " + bfia.PathPlatformLogLines,
			"the number of a task's log lines, by level",
			"2/5.4",
			func(ctx context.Context, s *session) (string, error) {
				_, _, id, err := s.finishedTask()
				if err != nil {
					return "", err
				}
				debug, problem := s.countLines(ctx, id, "debug")
				if problem != nil && !isDeviation(problem) {
					return "", problem
				}
				for _, level := range []string{"info", "error"} {
					n, err := s.countLines(ctx, id, level)
					if err != nil && !isDeviation(err) {
						return "", err
					}
					if n > debug {
						return "", fmt.Errorf("%d lines of level %s, %d of debug", n, level, debug)
					}
					problem = worst(problem, err)
				}
				return fmt.Sprintf("%d lines", debug), problem
			},
		},
		{
			"GET " + bfia.PathPlatformLog,
			"a task's log, by level and range",
			"2/5.5",
			func(ctx context.Context, s *session) (string, error) {
				_, _, id, err := s.finishedTask()
				if err != nil {
					return "", err
				}
				all, problem := s.lines(ctx, id, "start=0")
				if problem != nil && !isDeviation(problem) {
					return "", problem
				}
				one, err := s.lines(ctx, id, "start=0&length=1")
				if err != nil && !isDeviation(err) {
					return "", err
				}
				if len(all) > 0 && (len(one) != 1 || one[0] != all[0]) {
					return "", fmt.Errorf("length=1 gives %d lines, of %d", len(one), len(all))
				}
				return fmt.Sprintf("%d lines", len(all)), worst(problem, err)
			},
		},
		{
			"GET " + bfia.PathPlatformLog,
			"without task_id it is refused",
			"2/5.5",
			func(ctx context.Context, s *session) (string, error) {
				a, err := s.ask(ctx, http.MethodGet, bfia.PathPlatformLog+"?log_level=info&start=0", nil)
				if err != nil {
					return "", err
				}
				return a.String(), a.checkRefusal()
			},
		},
	}
}

func (s *session) countLines(ctx context.Context, id, level string) (int, error) {
	a, err := s.askQuery(ctx, bfia.PathPlatformLogLines, "task_id="+id+"&log_level="+level)
	if err != nil {
		return 0, err
	}
	var n int
	if json.Unmarshal(a.data["num"], &n) == nil && a.data["num"] != nil {
		return n, a.checkSuccess()
	}
	if a.fields["num"] != nil && json.Unmarshal(a.fields["num"], &n) == nil {
		return n, worst(a.checkSuccess(), deviates("num is at the top level, not in data"))
	}
	return 0, fmt.Errorf("has no data.num: %s", a)
}

func (s *session) lines(ctx context.Context, id, window string) ([]string, error) {
	a, err := s.askQuery(ctx, bfia.PathPlatformLog, "task_id="+id+"&log_level=debug&"+window)
	if err != nil {
		return nil, err
	}
	var text string
	if json.Unmarshal(a.data["data"], &text) == nil && a.data["data"] != nil {
		if text == "" {
			return nil, a.checkSuccess()
		}
		return strings.Split(strings.TrimSuffix(text, "\n"), "\n"), a.checkSuccess()
	}
	var list []json.RawMessage
	if json.Unmarshal(a.fields["data"], &list) == nil && a.fields["data"] != nil {
		var lines []string
		for _, raw := range list {
			lines = append(lines, string(raw))
		}
		return lines, deviates("data is a list of lines")
	}
	return nil, fmt.Errorf("has no data.data: %s", a)
}

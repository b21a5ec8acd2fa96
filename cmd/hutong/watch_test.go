package main

import (
	"bytes"
	"context"
	"net/http"
	"os"
	"regexp"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"hutong/bfia"
)

// sequence calls one handler after the other, and the last one for all further requests.
func sequence(handlers ...http.HandlerFunc) http.HandlerFunc {
	var n atomic.Int32
	return func(w http.ResponseWriter, r *http.Request) {
		i := min(int(n.Add(1)), len(handlers)) - 1
		handlers[i](w, r)
	}
}

func succeededJob() *bfia.JobStatus {
	s := twoTasks()
	s.State, s.EndedAt = bfia.JobFinished, at(3.2)
	t := &s.Tasks[1]
	t.State, t.EndedAt = bfia.TaskSuccess, at(3)
	t.Parties[0].State, t.Parties[0].EndedAt = bfia.TaskSuccess, at(3)
	t.Parties[1] = part(hostNode, "host", 0, bfia.TaskSuccess, at(1.7), at(2.9))
	return s
}

func unavailable(w http.ResponseWriter, _ *http.Request) {
	refuse(w, http.StatusServiceUnavailable, bfia.CodeUnavailable, "the database does not answer")
}

func TestWatchPiped(t *testing.T) {
	p := newParty(
		t,
		map[string]http.HandlerFunc{
			"GET " + bfia.PathPlatformStatusAll: sequence(data(twoTasks()), unavailable, data(twoTasks()),
				data(succeededJob())),
		},
	)
	status, stdout, stderr := p.run(t, "job", "watch", "j")
	assert.Equal(t, exitOK, status)
	assert.Empty(t, stderr)
	stamp := regexp.MustCompile(`(?m)^\d{4}-\d{2}-\d{2}T\d{2}:\d{2}:\d{2}\.\d{3}Z `)
	assert.Len(t, stamp.FindAllString(stdout, -1), strings.Count(stdout, "\n")-1,
		"each line except the summary has a timestamp")
	golden(t, "watch_piped.txt", stamp.ReplaceAllString(stdout, "TIME "))
}

func TestWatchFailure(t *testing.T) {
	p := newParty(
		t,
		map[string]http.HandlerFunc{
			"GET " + bfia.PathPlatformStatusAll:  sequence(data(twoTasks()), data(failedJob())),
			"POST " + bfia.PathPlatformCreateAll: data(bfia.JobCreated{JobID: "202601021200000000001"}),
		},
	)
	status, stdout, stderr := p.run(t, "job", "submit", "-f", file(t, "{}"), "--watch")
	assert.Equal(t, exitFailed, status)
	assert.Empty(t, stderr)
	reason := strings.Index(stdout, "\nFAILED  hetero_secureboost_1 host.0 at "+hostNode+": exit code 1")
	assert.Positive(t, reason)
	assert.Greater(t, strings.Index(stdout, "1 of 2 tasks SUCCESS"), reason, "the reason comes first")
}

// TestWatchEndsWithError checks that an error that is not retryable ends watching.
func TestWatchEndsWithError(t *testing.T) {
	p := newParty(
		t,
		map[string]http.HandlerFunc{
			"GET " + bfia.PathPlatformStatusAll: sequence(
				data(twoTasks()),
				func(w http.ResponseWriter, _ *http.Request) {
					refuse(w, 404, bfia.CodeNotFound, "job j is not known here")
				},
			),
		},
	)
	status, _, stderr := p.run(t, "job", "watch", "j")
	assert.Equal(t, exitFailed, status)
	assert.Equal(t, "hutong: job j is not known here\n", stderr)
}

// TestWatchInterrupted checks that Ctrl-C, which cancels the context, sends no request to stop the job.
func TestWatchInterrupted(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	p := newParty(
		t,
		map[string]http.HandlerFunc{
			"GET " + bfia.PathPlatformStatusAll: sequence(
				data(twoTasks()),
				func(w http.ResponseWriter, r *http.Request) {
					cancel()
					data(twoTasks())(w, r)
				},
			),
		},
	)
	status, _, stderr := runMain(t, ctx, []string{"HUTONG_URL=" + p.URL}, "", "job", "watch", "j1")
	assert.Equal(t, exitFailed, status)
	assert.Equal(t, "Stopped watching; job j1 continues. Stop it with 'hutong job stop j1'.\n", stderr)
	for _, a := range p.requests() {
		assert.Equal(t, bfia.PathPlatformStatusAll, a.path)
	}
}

// screen emulates a terminal with the escape sequences that a picture uses. It fails the test for others.
type screen struct {
	t      *testing.T
	lines  [][]rune
	row    int
	writes int
}

func (s *screen) Write(p []byte) (int, error) {
	s.writes++
	column := 0
	for rest := []rune(string(p)); len(rest) > 0; {
		switch {
		case rest[0] == '\r':
			column, rest = 0, rest[1:]
		case rest[0] == '\n':
			s.row++
			rest = rest[1:]
		case rest[0] == 0x1b:
			m := regexp.MustCompile("^\x1b\\[([0-9;]*)([A-Za-z])").FindStringSubmatch(string(rest))
			require.NotNil(s.t, m, "%q", string(rest))
			switch m[2] {
			case "A":
				n := 0
				for _, d := range m[1] {
					n = 10*n + int(d-'0')
				}
				s.row -= n
				require.GreaterOrEqual(s.t, s.row, 0, "the cursor moves above the picture")
			case "K":
				s.grow()
				s.lines[s.row] = s.lines[s.row][:min(column, len(s.lines[s.row]))]
			case "J":
				s.grow()
				s.lines[s.row] = s.lines[s.row][:min(column, len(s.lines[s.row]))]
				s.lines = s.lines[:s.row+1]
			case "m":
			default:
				require.Fail(s.t, "unknown sequence", "%q", m[0])
			}
			rest = rest[len([]rune(m[0])):]
		default:
			s.grow()
			for len(s.lines[s.row]) <= column {
				s.lines[s.row] = append(s.lines[s.row], ' ')
			}
			s.lines[s.row][column] = rest[0]
			column, rest = column+1, rest[1:]
		}
	}
	return len(p), nil
}

func (s *screen) grow() {
	for len(s.lines) <= s.row {
		s.lines = append(s.lines, nil)
	}
}

func (s *screen) text() string {
	var out []string
	for _, l := range s.lines {
		out = append(out, strings.TrimRight(string(l), " "))
	}
	return strings.TrimRight(strings.Join(out, "\n"), "\n")
}

// TestPictureRedraws checks that the screen shows only the last of several pictures of different sizes.
func TestPictureRedraws(t *testing.T) {
	s := &screen{t: t}
	width, height := 80, 10
	p := &picture{w: s, colour: true, size: func() (int, int) { return width, height }}
	plainView := func() view { return view{width: width - 1, height: height - 1} }
	for i, status := range []*bfia.JobStatus{{JobID: "N", State: bfia.JobPending}, many(30), twoTasks(),
		many(5), failedJob()} {
		now := noon.Add(time.Duration(i) * time.Second)
		require.NoError(t, p.show(status, now, ""))
		assert.Equal(t, strings.Join(draw(status, now, plainView()), "\n"), s.text())
		assert.Equal(t, i+1, s.writes, "one write for each picture")
		assert.Less(t, s.row, height, "the picture does not scroll")
	}
	require.NoError(t, p.close(many(30), noon))
	assert.Equal(t, strings.Join(draw(many(30), noon, view{width: width - 1}), "\n"), s.text(),
		"the last picture is complete")
}

func TestTerminalLines(t *testing.T) {
	assert.Equal(t, 4, terminalLines([]string{"", "\x1b[31mabcdefgh\x1b[0m", "abcdef"}, 6))
	assert.Equal(t, 0, terminalLines(nil, 80))
}

func TestPictureOfOutage(t *testing.T) {
	p := newParty(
		t,
		map[string]http.HandlerFunc{
			"GET " + bfia.PathPlatformStatusAll: sequence(data(twoTasks()), unavailable, unavailable,
				data(succeededJob())),
		},
	)
	c := &client{url: p.URL, timeout: time.Minute, account: account{getenv: func(string) string {
		return ""
	}}}
	var drawn bytes.Buffer
	status, err := c.follow(t.Context(), "j", &picture{w: &drawn, size: func() (int, int) { return 120, 24 }})
	require.NoError(t, err)
	assert.Equal(t, bfia.JobFinished, status.State)
	assert.Regexp(t, `no answer for [0-9.]+s, retrying`, drawn.String())
	last := drawn.String()[strings.LastIndex(drawn.String(), "job 2026"):]
	assert.NotContains(t, last, "no answer")
	assert.Contains(t, last, "4 of 4 parts")
}

func TestNoTerminal(t *testing.T) {
	assert.Nil(t, terminal(&bytes.Buffer{}))
	f, err := os.Open(os.DevNull)
	require.NoError(t, err)
	defer func() { _ = f.Close() }()
	assert.Nil(t, terminal(f))
}

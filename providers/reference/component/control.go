package component

import (
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"strconv"
	"sync/atomic"
	"time"
)

// StatusRunning is what a component answers while it works.
const StatusRunning = "RUNNING"

// maxQuery bounds a request, in bytes.
const maxQuery = 1 << 16

// Control answers a scheduler that asks how the task is going (API_SPECS, part 3, section 3.2.1), on
// system.control_port.
type Control struct {
	task   Task
	status atomic.Value // string
	server *http.Server
}

// OpenControl serves POST /v1/platform/algorithm/task/query on the task's control port, of all addresses of the container. Without
// a port it serves nothing. A task can do without being asked, so an error is no reason to fail.
func (t Task) OpenControl() (*Control, error) {
	c := &Control{task: t}
	c.status.Store(StatusRunning)
	if t.Control == "" {
		return c, nil
	}
	port, err := strconv.ParseUint(t.Control, 10, 16)
	if err != nil {
		return c, fmt.Errorf("variable system.control_port: %q is no port", clip(t.Control))
	}
	l, err := net.Listen("tcp", ":"+strconv.FormatUint(port, 10))
	if err != nil {
		return c, fmt.Errorf("variable system.control_port: %w", err)
	}
	c.server = &http.Server{Handler: c, ReadTimeout: 10 * time.Second, WriteTimeout: 10 * time.Second}
	go func() { _ = c.server.Serve(l) }() // ends with Close
	return c, nil
}

// Set changes the status that is answered.
func (c *Control) Set(status string) { c.status.Store(status) }

// Close stops answering.
func (c *Control) Close() {
	if c.server != nil {
		_ = c.server.Close()
	}
}

// controlAnswer has status and role beside the code, as the section's example, and in data, as its common envelope.
type controlAnswer struct {
	Code   int           `json:"code"`
	Msg    string        `json:"msg"`
	Status string        `json:"status,omitempty"` // RUNNING, SUCCESS or FAILED
	Role   string        `json:"role,omitempty"`   // guest
	Data   *controlState `json:"data,omitempty"`
}

type controlState struct {
	Status string `json:"status"`
	Role   string `json:"role"`
}

// ServeHTTP implements http.Handler.
func (c *Control) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	refuse := func(status int, format string, args ...any) {
		writeAnswer(w, status, controlAnswer{Code: status, Msg: fmt.Sprintf(format, args...)})
	}
	if r.URL.Path != "/v1/platform/algorithm/task/query" {
		refuse(http.StatusNotFound, "there is only /v1/platform/algorithm/task/query here")
		return
	}
	if r.Method != http.MethodPost {
		w.Header().Set("Allow", http.MethodPost)
		refuse(http.StatusMethodNotAllowed, "use POST")
		return
	}
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxQuery))
	var query struct {
		TaskID string `json:"task_id"`
	}
	if err == nil {
		err = json.Unmarshal(body, &query)
	}
	switch {
	case err != nil:
		refuse(http.StatusBadRequest, "the body is not JSON with a task_id")
	case query.TaskID != c.task.TaskID:
		refuse(http.StatusNotFound, "task_id: %q does not run here", clip(query.TaskID))
	default:
		s := controlState{c.status.Load().(string), c.task.Self.Role}
		writeAnswer(w, http.StatusOK, controlAnswer{Msg: "success", Status: s.Status, Role: s.Role, Data: &s})
	}
}

func writeAnswer(w http.ResponseWriter, status int, a controlAnswer) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(a)
}

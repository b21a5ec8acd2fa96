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

// StatusRunning is the status of a component that works.
const StatusRunning = "RUNNING"

// maxQuery is the maximum size of a request in bytes.
const maxQuery = 1 << 16

// Control answers the scheduler's status queries on system.control_port (API_SPECS, part 3, section 3.2.1).
type Control struct {
	task   Task
	status atomic.Value // string
	server *http.Server
}

// ServeControl serves POST /v1/platform/algorithm/task/query on the task's control port, at all addresses of
// the container. Without a port it serves nothing. Status queries are optional, so the caller should log an
// error and continue.
func (t Task) ServeControl() (*Control, error) {
	c := &Control{task: t}
	c.status.Store(StatusRunning)
	if t.ControlPort == "" {
		return c, nil
	}
	port, err := strconv.ParseUint(t.ControlPort, 10, 16)
	if err != nil {
		return c, fmt.Errorf("variable system.control_port: %q is not a port number", truncate(t.ControlPort))
	}
	l, err := net.Listen("tcp", ":"+strconv.FormatUint(port, 10))
	if err != nil {
		return c, fmt.Errorf("variable system.control_port: %w", err)
	}
	c.server = &http.Server{Handler: c, ReadTimeout: 10 * time.Second, WriteTimeout: 10 * time.Second}
	go func() { _ = c.server.Serve(l) }() // ends with Close
	return c, nil
}

// SetStatus changes the status in the responses.
func (c *Control) SetStatus(status string) { c.status.Store(status) }

// Close stops the server.
func (c *Control) Close() {
	if c.server != nil {
		_ = c.server.Close()
	}
}

// controlResponse carries status and role twice: next to the code, as in the section's example, and in data,
// as in the common envelope.
type controlResponse struct {
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
		writeResponse(w, status, controlResponse{Code: status, Msg: fmt.Sprintf(format, args...)})
	}
	if r.URL.Path != "/v1/platform/algorithm/task/query" {
		refuse(http.StatusNotFound, "unknown path; this port serves /v1/platform/algorithm/task/query only")
		return
	}
	if r.Method != http.MethodPost {
		w.Header().Set("Allow", http.MethodPost)
		refuse(http.StatusMethodNotAllowed, "method not allowed; use POST")
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
		refuse(http.StatusBadRequest, "the body must be JSON with a task_id")
	case query.TaskID != c.task.TaskID:
		refuse(http.StatusNotFound, "task_id: %q does not run in this container", truncate(query.TaskID))
	default:
		s := controlState{c.status.Load().(string), c.task.Self.Role}
		writeResponse(
			w, http.StatusOK, controlResponse{Msg: "success", Status: s.Status, Role: s.Role, Data: &s},
		)
	}
}

func writeResponse(w http.ResponseWriter, status int, a controlResponse) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(a)
}

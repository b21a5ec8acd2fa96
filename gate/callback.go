package gate

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"sync"
	"time"
	"unicode/utf8"

	"hutong/bfia"
	"hutong/internal/identity"
)

const (
	// maxReport bounds the body of a callback.
	maxReport = 64 << 10
	// reportTimeout bounds its arrival.
	reportTimeout = 30 * time.Second
	// maxReports bounds the changes of state that one container reports.
	maxReports = 20
	// maxRemembered bounds the containers whose last report is remembered.
	maxRemembered = 10_000
)

// reports remembers what containers have reported, so that no flood reaches a workflow.
type reports struct {
	mu   sync.Mutex
	last map[string]*reported // by the container's id
}

// reported is the last report of one container. Its mutex is held while a report is passed on.
type reported struct {
	mu    sync.Mutex
	state bfia.TaskState
	count int
}

// of returns the last report of a container.
func (r *reports) of(id string) *reported {
	r.mu.Lock()
	defer r.mu.Unlock()
	if known := r.last[id]; known != nil {
		return known
	}
	for old := range r.last { // any: a container whose last report is forgotten can report it again
		if len(r.last) < maxRemembered {
			break
		}
		delete(r.last, old)
	}
	r.last[id] = &reported{}
	return r.last[id]
}

// callback accepts a container's report of its state (part 2, 4.1).
func (g *Gate) callback(w http.ResponseWriter, r *http.Request, token string) {
	caller, err := g.takeReport(w, r, token)
	if err == nil {
		answerJSON(w, http.StatusOK, bfia.CodeOK, "success")
		return
	}
	if refusal, ok := errors.AsType[*errForbidden](err); ok {
		err = bfia.Errorf(bfia.CodeForbidden, "%s", refusal.text)
	}
	code := bfia.CodeOf(err)
	log := g.cfg.Logger.With("remote", r.RemoteAddr, "code", int(code), "error", err)
	if code.HTTPStatus() >= 500 {
		log.Error("failed to take a container's callback")
	} else {
		log.Info("refused a container's callback")
	}
	if code == bfia.CodeForbidden || code == bfia.CodeRefused {
		g.refused(r, caller, "", bfia.MessageOf(err))
	}
	answerJSON(w, code.HTTPStatus(), code, bfia.MessageOf(err))
}

func (g *Gate) takeReport(w http.ResponseWriter, r *http.Request, token string) (
	identity.Principal, error) {
	if r.Method != http.MethodPost {
		w.Header().Set("Allow", http.MethodPost)
		return identity.Principal{}, bfia.Errorf(bfia.CodeMethod, "%s accepts POST only", r.URL.Path)
	}
	if token == "" {
		token = headersOf(r)[headerToken]
	}
	run, caller, err := g.identify(r, token)
	if err != nil {
		return caller, asUnavailable(err)
	}
	report, err := readReport(w, r)
	if err != nil {
		return caller, err
	}
	key := report.TaskID + "/" + report.Role
	if run.known() {
		if report.TaskID != run.TaskID || !run.mayReportAs(report.Role) {
			return caller, bfia.Errorf(
				bfia.CodeForbidden,
				"task_id, role: this container runs task %s as %s, and reports "+
					"nothing else",
				run.TaskID,
				run.Role,
			)
		}
		report.Role, key = run.Role, run.ID
	}
	return caller, g.passOn(r, key, report)
}

// passOn passes a report on if it says something new.
func (g *Gate) passOn(r *http.Request, key string, report *bfia.TaskReport) error {
	last := g.reports.of(key)
	last.mu.Lock()
	defer last.mu.Unlock()
	switch {
	case report.Status == last.state || last.state.Terminal():
		return nil
	case last.count >= maxReports:
		return bfia.Errorf(
			bfia.CodeRefused,
			"status: this container has reported %d changes of its state, and can "+
				"report no more",
			maxReports,
		)
	}
	if err := g.cfg.Report(r.Context(), *report); err != nil {
		return err
	}
	last.state, last.count = report.Status, last.count+1
	return nil
}

// readReport reads the body of a callback.
func readReport(w http.ResponseWriter, r *http.Request) (*bfia.TaskReport, error) {
	_ = http.NewResponseController(w).SetReadDeadline(time.Now().Add(reportTimeout))
	body, err := io.ReadAll(io.LimitReader(r.Body, maxReport+1))
	switch {
	case err != nil:
		return nil, bfia.Wrap(bfia.CodeBadRequest, err, "body: ended or stalled before it was complete")
	case len(body) > maxReport:
		return nil, bfia.Errorf(bfia.CodeTooLarge, "body: is longer than %d bytes", maxReport)
	}
	_ = http.NewResponseController(w).SetReadDeadline(time.Time{})
	body = bytes.TrimPrefix(body, []byte("\uFEFF")) // a byte order mark
	if !utf8.Valid(body) {
		return nil, bfia.Errorf(bfia.CodeBadRequest, "body: is not UTF-8")
	}
	var report bfia.TaskReport
	if err := bfia.DecodeJSON(body, &report); err != nil {
		return nil, err
	}
	if err := bfia.CheckID("task_id", report.TaskID); err != nil {
		return nil, err
	}
	if report.Role == "" {
		return nil, bfia.Errorf(bfia.CodeBadRequest, "role: is required")
	}
	_, err = bfia.ParseTaskState(string(report.Status))
	return &report, err
}

// asUnavailable makes an error that is no refusal one after which the caller tries again.
func asUnavailable(err error) error {
	if _, ok := errors.AsType[*errForbidden](err); ok {
		return err
	}
	return bfia.Wrap(bfia.CodeUnavailable, err, "the party can't look up its containers; try again")
}

func answerJSON(w http.ResponseWriter, status int, code bfia.Code, message string) {
	if status == http.StatusServiceUnavailable {
		w.Header().Set("Retry-After", "5")
	}
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(struct {
		Code bfia.Code `json:"code"`
		Msg  string    `json:"msg"`
		Data struct{}  `json:"data"`
	}{Code: code, Msg: message})
}

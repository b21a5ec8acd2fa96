package conformance

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"strings"
	"time"

	"hutong/bfia"
)

// session is one run of the checks: the target and the jobs that earlier checks created.
type session struct {
	Target
	participant *testJob // the job in which the tested party takes part
	scheduled   *testJob // the job that it schedules
	submitted   *testJob // the job that it received as from a client
}

// testJob is a job that the checks created.
type testJob struct {
	id    string
	flow  string
	doc   *bfia.Document
	tasks map[string]string // the known ids by name
	ended bool              // its tasks have succeeded
}

// dialect sets the headers in one implementation's spelling.
type dialect func(h http.Header, node string)

func specification(h http.Header, node string) {
	bfia.SetHeaders(h, node, node, "conformance", time.Now())
}

func fateFlow(h http.Header, node string) {
	for name, value := range map[string]string{"x_node_id": node, "x_auth_sign": "",
		"x_nonce": fmt.Sprint(rand.Uint64()), "x_trace_id": "",
		"x_timestamp": fmt.Sprint(time.Now().UnixMilli())} {
		h[name] = []string{value} // keeps the spelling
	}
	h.Set("Content-Type", "application/json")
}

func kuscia(h http.Header, node string) {
	for name, value := range map[string]string{"X-Node-Id": node, "X-Auth-Sign": "",
		"X-Nonce":     fmt.Sprint(rand.Uint64()),
		"X-Trace-Id":  "t",
		"X-Timestamp": fmt.Sprint(time.Now().Unix())} {
		h.Set(name, value)
	}
	h.Set("Content-Type", "application/json")
}

// answer is an answer of the target.
type answer struct {
	status int
	raw    []byte
	fields map[string]json.RawMessage
	code   *int
	data   map[string]json.RawMessage
}

// maxAnswer bounds the bytes that are read of an answer.
const maxAnswer = 16 << 20

// ask sends a request with the specification's headers. The body is nil, text, or anything as JSON.
func (s *session) ask(ctx context.Context, method, path string, body any) (*answer, error) {
	return s.askAs(ctx, specification, method, path, body)
}

func (s *session) askAs(ctx context.Context, d dialect, method, path string, body any) (*answer, error) {
	var payload []byte
	switch b := body.(type) {
	case nil:
	case string:
		payload = []byte(b)
	case []byte:
		payload = b
	default:
		var err error
		if payload, err = json.Marshal(b); err != nil {
			return nil, err
		}
	}
	request, err := http.NewRequestWithContext(ctx, method, strings.TrimSuffix(s.URL, "/")+path,
		bytes.NewReader(payload))
	if err != nil {
		return nil, err
	}
	d(request.Header, s.Node)
	response, err := s.HTTP.Do(request)
	if err != nil {
		return nil, fmt.Errorf("no answer: %w", err)
	}
	defer func() { _ = response.Body.Close() }()
	raw, err := io.ReadAll(io.LimitReader(response.Body, maxAnswer))
	if err != nil {
		return nil, fmt.Errorf("failed to read the answer: %w", err)
	}
	a := &answer{status: response.StatusCode, raw: raw}
	if json.Unmarshal(raw, &a.fields) == nil {
		var code int
		if json.Unmarshal(a.fields["code"], &code) == nil {
			a.code = &code
		}
		_ = json.Unmarshal(a.fields["data"], &a.data)
	}
	return a, nil
}

// String returns the answer shortened, for a result.
func (a *answer) String() string {
	text := strings.ToValidUTF8(strings.Join(strings.Fields(string(a.raw)), " "), "?")
	if len(text) > 160 {
		text = strings.ToValidUTF8(text[:160], "") + "…"
	}
	return fmt.Sprintf("HTTP %d %s", a.status, text)
}

// envelope checks the form of every answer (part 2, 2.3): code, msg and data. FATE-Flow sends message for
// errors, and data can be missing.
func (a *answer) envelope() error {
	if a.code == nil {
		return fmt.Errorf("is not an envelope with a numeric code: %s", a)
	}
	var text string
	if raw, ok := a.fields["msg"]; ok {
		if json.Unmarshal(raw, &text) != nil {
			return fmt.Errorf("msg is not a string: %s", a)
		}
	} else if json.Unmarshal(a.fields["message"], &text) == nil {
		return deviates("has message instead of msg: %s", a)
	} else {
		return fmt.Errorf("has no msg: %s", a)
	}
	if a.data == nil {
		return deviates("data is not an object: %s", a)
	}
	return nil
}

// checkSuccess checks that the answer is a success.
func (a *answer) checkSuccess() error {
	if a.code != nil && *a.code == 200 {
		return worst(a.envelope(), deviates("code is 200 for success"))
	}
	if a.code == nil || *a.code != 0 {
		return fmt.Errorf("is not accepted: %s", a)
	}
	return a.envelope()
}

// checkRefusal checks that the answer is a refusal: a code that is not 0, in an envelope.
func (a *answer) checkRefusal() error {
	if a.code != nil && *a.code == 0 {
		return fmt.Errorf("is accepted: %s", a)
	}
	return a.envelope()
}

// stringField returns a string in data. One at the top level is a deviation.
func (a *answer) stringField(name string) (string, error) {
	var word string
	if raw, ok := a.data[name]; ok {
		if json.Unmarshal(raw, &word) != nil {
			return "", fmt.Errorf("data.%s is not a string: %s", name, a)
		}
		return word, nil
	}
	if json.Unmarshal(a.fields[name], &word) == nil && word != "" {
		return word, deviates("%s is at the top level, not in data", name)
	}
	return "", fmt.Errorf("has no data.%s: %s", name, a)
}

// mapField returns an object of strings in data. One at the top level is a deviation.
func (a *answer) mapField(name string) (map[string]string, error) {
	var words map[string]string
	if raw, ok := a.data[name]; ok {
		if json.Unmarshal(raw, &words) != nil {
			return nil, fmt.Errorf("data.%s is not an object of strings: %s", name, a)
		}
		return words, nil
	}
	if raw, ok := a.fields[name]; ok && json.Unmarshal(raw, &words) == nil {
		return words, deviates("%s is at the top level, not in data", name)
	}
	return nil, fmt.Errorf("has no data.%s: %s", name, a)
}

// newTestJob returns a job from the target's document, with its own ids and all roles at the tested party.
func (s *session) newTestJob() (*testJob, error) {
	if len(s.Job) == 0 {
		return nil, &skipError{"needs a job (--job)"}
	}
	var fields map[string]json.RawMessage
	var config, roles map[string]json.RawMessage
	if err := json.Unmarshal(s.Job, &fields); err != nil {
		return nil, err
	}
	if err := json.Unmarshal(fields["config"], &config); err != nil {
		return nil, err
	}
	if err := json.Unmarshal(config["role"], &roles); err != nil {
		return nil, err
	}
	put := func(into map[string]json.RawMessage, name string, value any) {
		into[name], _ = json.Marshal(value) // strings, lists and maps of them always marshal
	}
	first := ""
	for role := range roles {
		put(roles, role, []string{s.Node})
		if first == "" || role == "guest" {
			first = role
		}
	}
	put(config, "role", roles)
	put(config, "initiator", map[string]string{"role": first, "node_id": s.Node})
	put(fields, "config", config)
	t := &testJob{id: bfia.NewJobID(time.Now(), rand.IntN(10)), tasks: map[string]string{}}
	t.flow = "conformance-" + t.id
	put(fields, "flow_id", t.flow)
	put(fields, "job_id", t.id)
	put(fields, "old_job_id", "")
	put(fields, "x_conformance",
		map[string]any{"unknown": []int{1}}) // implementations must accept unknown fields
	body, err := json.Marshal(fields)
	if err != nil {
		return nil, err
	}
	t.doc, err = bfia.ParseDocument(body)
	return t, err
}

// await polls done with increasing delays until it returns true, or the timeout is over.
func (s *session) await(ctx context.Context, what string, done func() (bool, error)) error {
	deadline := time.Now().Add(s.Timeout)
	for wait := 50 * time.Millisecond; ; wait = min(wait*3/2, 2*time.Second) {
		ok, err := done()
		if ok || err != nil {
			return err
		}
		if time.Now().After(deadline) {
			return fmt.Errorf("%s: timed out after %s", what, s.Timeout)
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(wait):
		}
	}
}

// worst returns the most severe of several errors: a failure before a deviation.
func worst(errs ...error) error {
	var accepted error
	for _, err := range errs {
		if err == nil {
			continue
		}
		if d, ok := err.(*deviation); ok {
			if accepted == nil {
				accepted = d
			}
			continue
		}
		return err
	}
	return accepted
}

var jobStates = []string{"PENDING", "READY", "REJECTED", "RUNNING", "FINISHED"}

package bfia

import (
	"bytes"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"unicode"
)

// Document creates a job (part 2, 3.1, 3.2 and 5.1): it names the parties, the tasks and the parameters.
//
// It keeps unknown fields and the spelling of numbers when it is passed on, since other implementations read
// it too.
type Document struct {
	JobID    string
	FlowID   string
	OldJobID string
	DAG      DAG
	Config   Config

	fields   map[string]json.RawMessage // all fields, as they arrived
	repeated []string                   // the fields that arrived more than once
}

// DAG holds the components and how their outputs feed each other (part 2, 6.7).
type DAG struct {
	Version    string      `json:"version"`
	Components []Component `json:"components"`
}

// Component is one task of the DAG: an algorithm of a provider, under a name that is unique in the job.
type Component struct {
	Name          string `json:"name"`
	ComponentName string `json:"componentName"`
	Provider      string `json:"provider"`
	Version       string `json:"version"`
	Input         []Port `json:"input"`
	Output        []Port `json:"output"`
}

// Port is an input ("task.output" of another component) or an output (a key of the component's own).
type Port struct {
	Type string `json:"type"`
	Key  string `json:"key"`
}

// Config holds the parties and the parameters (part 2, 6.6).
type Config struct {
	Version    string              `json:"version"`
	Initiator  Initiator           `json:"initiator"`
	Role       map[string][]string `json:"role"`
	JobParams  Params              `json:"job_params"`
	TaskParams Params              `json:"task_params"`
}

// Initiator is the party that submitted the job.
type Initiator struct {
	Role   string `json:"role"`
	NodeID string `json:"node_id"`
}

// ParseDocument reads a job's document. It checks the form only; [NewPlan] checks whether the job can run.
// Every error is an [Error] that names the field.
func ParseDocument(body []byte) (*Document, error) {
	var d Document
	if err := DecodeJSON(body, &d.fields); err != nil {
		return nil, err
	}
	if d.fields == nil {
		return nil, Errorf(CodeBadRequest, "body: is null, must be an object")
	}
	d.repeated = RepeatedFields(body)
	err := DecodeFields(d.fields, Optional("job_id", &d.JobID), Optional("flow_id", &d.FlowID),
		Optional("old_job_id", &d.OldJobID), Required("dag", &d.DAG), Required("config", &d.Config))
	if err != nil {
		return nil, err
	}
	if d.JobID != "" {
		if err := CheckID("job_id", d.JobID); err != nil {
			return nil, err
		}
	}
	if len(d.FlowID) > 256 || strings.ContainsFunc(d.FlowID, unicode.IsControl) {
		return nil, Errorf(CodeBadRequest,
			"flow_id: is longer than 256 bytes or contains a control character")
	}
	return &d, nil
}

// UnmarshalJSON reads the DAG. Its errors name the index of the component.
func (d *DAG) UnmarshalJSON(b []byte) error {
	var object map[string]json.RawMessage
	if err := DecodeJSON(b, &object); err != nil {
		return err
	}
	return DecodeFields(object, Optional("version", &d.Version),
		Optional("components", ListOf(&d.Components)))
}

// UnmarshalJSON reads the component. Its errors name the index of the input or output.
func (c *Component) UnmarshalJSON(b []byte) error {
	var object map[string]json.RawMessage
	if err := DecodeJSON(b, &object); err != nil {
		return err
	}
	return DecodeFields(object, Optional("name", &c.Name), Optional("componentName", &c.ComponentName),
		Optional("provider", &c.Provider), Optional("version", &c.Version),
		Optional("input", ListOf(&c.Input)), Optional("output", ListOf(&c.Output)))
}

// UnmarshalJSON reads the config. Its errors name the role and the index.
func (c *Config) UnmarshalJSON(b []byte) error {
	var object map[string]json.RawMessage
	if err := DecodeJSON(b, &object); err != nil {
		return err
	}
	return DecodeFields(object,
		Optional("version", &c.Version),
		Optional("initiator", &c.Initiator),
		Optional("role", MapOf(&c.Role, func(nodes *[]string) any { return ListOf(nodes) })),
		Optional("job_params", &c.JobParams),
		Optional("task_params", &c.TaskParams))
}

// WithJobID returns a copy with a job id.
func (d *Document) WithJobID(id string) *Document {
	c := *d
	c.JobID = id
	c.fields = make(map[string]json.RawMessage, len(d.fields)+1)
	for k, v := range d.fields {
		c.fields[k] = v
	}
	raw, _ := json.Marshal(id)
	c.fields["job_id"] = raw
	return &c
}

// Rerun returns the document of a job that runs the same again under another id, and reuses what went well.
func (d *Document) Rerun(id string) (*Document, error) {
	fields := maps.Clone(d.fields)
	for name, value := range map[string]string{"job_id": id, "old_job_id": d.JobID} {
		raw, err := json.Marshal(value)
		if err != nil {
			return nil, err
		}
		fields[name] = raw
	}
	return ParseDocument((&Document{fields: fields}).Bytes())
}

// Bytes returns the document as JSON: the same bytes for the same document.
func (d *Document) Bytes() []byte {
	// A map of raw messages is encoded with sorted keys. It can't fail, since every value was parsed.
	// Without the escaping of HTML the values keep their spelling.
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(d.fields); err != nil {
		panic(fmt.Sprintf("bfia: failed to encode a parsed document: %v", err))
	}
	return bytes.TrimSuffix(b.Bytes(), []byte("\n"))
}

// Field returns a top-level field of the document as it arrived, or nil.
func (d *Document) Field(name string) json.RawMessage { return d.fields[name] }

// Nodes returns the node ids of the participants, sorted and without duplicates.
func (c *Config) Nodes() []string {
	var nodes []string
	for _, list := range c.Role {
		nodes = append(nodes, list...)
	}
	slices.Sort(nodes)
	return slices.Compact(nodes)
}

// PartsOf returns the parts of a node, such as guest.0 and host.1, in the order of [Config.Roles].
func (c *Config) PartsOf(node string) []Part {
	var parts []Part
	for _, p := range c.Parts() {
		if p.NodeID == node {
			parts = append(parts, p)
		}
	}
	return parts
}

// Roles returns the names of the roles: guest, host and arbiter first, then the others, sorted.
func (c *Config) Roles() []string {
	order := func(r string) string {
		if i := slices.Index([]string{"guest", "host", "arbiter"}, r); i >= 0 {
			return fmt.Sprintf(" %d", i)
		}
		return r
	}
	roles := make([]string, 0, len(c.Role))
	for r := range c.Role {
		roles = append(roles, r)
	}
	slices.SortFunc(roles, func(a, b string) int { return strings.Compare(order(a), order(b)) })
	return roles
}

// Parts returns all roles with their indexes and nodes.
func (c *Config) Parts() []Part {
	var parts []Part
	for _, r := range c.Roles() {
		for i, node := range c.Role[r] {
			parts = append(parts, Part{Role: r, Index: i, NodeID: node})
		}
	}
	return parts
}

// Part is one role with its index and its node: the unit for which one container of a task runs.
type Part struct {
	Role   string `json:"role"`
	Index  int    `json:"index"`
	NodeID string `json:"node_id"`
}

// Self returns the part's name in the environment of containers: guest.0.
func (p Part) Self() string { return p.Role + "." + itoa(p.Index) }

func itoa(n int) string { return strconv.Itoa(n) }

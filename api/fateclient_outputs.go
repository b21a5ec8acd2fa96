package api

import (
	"bytes"
	"cmp"
	"context"
	"encoding/csv"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"mime"
	"slices"
	"strings"

	"github.com/gofiber/fiber/v2"

	"hutong/bfia"
	"hutong/fateflow/fateclient"
	"hutong/internal/audit"
	"hutong/store"
)

const (
	// displayedRows is the number of rows that a display of a table shows.
	displayedRows = 100
	// maxShownOutput bounds the bytes of a report or model in an answer. Larger ones can be downloaded.
	maxShownOutput = 16 << 20
)

// fatePart is one part of a task of this party, as FATE's clients name it.
type fatePart struct {
	jobID, role, task string
	outputs           []store.Output
}

// fatePart reads the parameters of a request about the outputs of a part, and the outputs.
func (s *Server) fatePart(c *fiber.Ctx) (*fatePart, error) {
	get, err := s.params(c)
	if err != nil {
		return nil, err
	}
	task := cmp.Or(get("task_name"), get("component_name")) // FATE-Board asks for curves with the second
	for _, f := range []struct{ name, value string }{
		{"job_id", get("job_id")}, {"role", get("role")}, {"party_id", get("party_id")}, {"task_name", task},
	} {
		if err := bfia.CheckID(f.name, f.value); err != nil {
			return nil, err
		}
	}
	p := &fatePart{jobID: get("job_id"), role: get("role"), task: task}
	tasks, err := s.store.TasksNamed(c.UserContext(), p.jobID, p.task)
	if err != nil {
		return nil, err
	}
	mine := func(t store.Task) bool { return t.Role == p.role && get("party_id") == s.Node }
	if !slices.ContainsFunc(tasks, mine) {
		return nil, bfia.Errorf(bfia.CodeNotFound, "task_name: %s has no such task%s", s.Node,
			withRole(p.jobID, p.task, p.role, get("party_id")))
	}
	all, err := s.store.Outputs(c.UserContext(), p.jobID)
	if err != nil {
		return nil, err
	}
	key := get("output_key")
	for _, o := range all {
		if o.TaskName == p.task && o.Role == p.role && (key == "" || key == portOf(o)) {
			p.outputs = append(p.outputs, o)
		}
	}
	return p, nil
}

// of returns the outputs of a kind: data, model or metric.
func (p *fatePart) of(kind string) []store.Output {
	return slices.DeleteFunc(slices.Clone(p.outputs),
		func(o store.Output) bool { return fateclient.KindOf(o.Type) != kind })
}

// portOf returns the name under which FATE's clients find an output.
func portOf(o store.Output) string { return cmp.Or(o.Port, o.Key) }

// metric is a metric in FATE's form.
type metric struct {
	Name   string            `json:"name"`
	Type   *string           `json:"type"` // FATE leaves it out of some
	Groups []json.RawMessage `json:"groups"`
	Step   *string           `json:"step_axis"`
	Data   json.RawMessage   `json:"data,omitzero"`
}

// metricsOf returns the metrics in a report: those of FATE's components as they are, any other report as one.
// A role of FATE's that measures nothing has an empty list.
func metricsOf(port string, report json.RawMessage) []metric {
	var own []metric
	err := json.Unmarshal(report, &own)
	foreign := func(m metric) bool {
		return m.Name == "" || m.Data == nil || m.Type == nil && m.Groups == nil
	}
	if err != nil || own == nil || slices.ContainsFunc(own, foreign) {
		custom := "custom"
		own = []metric{{Name: port, Type: &custom, Data: report}}
	}
	for i := range own {
		if own[i].Groups == nil {
			own[i].Groups = []json.RawMessage{}
		}
	}
	return own
}

// fateMetrics returns the reports of a part.
func (s *Server) fateMetrics(c *fiber.Ctx) error { return s.metrics(c, true) }

// fateMetricKeys returns the names of the reports of a part.
func (s *Server) fateMetricKeys(c *fiber.Ctx) error { return s.metrics(c, false) }

func (s *Server) metrics(c *fiber.Ctx, data bool) error {
	part, err := s.fatePart(c)
	if err != nil {
		return err
	}
	if err := s.recordRead(c.UserContext(), part.jobID); err != nil {
		return err
	}
	list := []metric{}
	for _, o := range part.of("metric") {
		report, err := s.shownOutput(c.UserContext(), o)
		if err != nil {
			return err
		}
		for _, m := range metricsOf(portOf(o), report) {
			if !data {
				m.Data = nil
			}
			list = append(list, m)
		}
	}
	return okFATE(c, list, nil)
}

// fateModels returns the models of a part that are JSON.
func (s *Server) fateModels(c *fiber.Ctx) error {
	part, err := s.fatePart(c)
	if err != nil {
		return err
	}
	if err := s.recordRead(c.UserContext(), part.jobID); err != nil {
		return err
	}
	models := map[string]json.RawMessage{}
	for _, o := range part.of("model") {
		if models[portOf(o)], err = s.shownOutput(c.UserContext(), o); err != nil {
			return err
		}
	}
	return okFATE(c, models, nil)
}

// shownOutput returns an output as JSON. For one that is not JSON, or too large, it returns a string with its
// size.
func (s *Server) shownOutput(ctx context.Context, o store.Output) (json.RawMessage, error) {
	rc, _, err := s.openData(ctx, o.Namespace, o.Name)
	if err != nil {
		return nil, err
	}
	content, err := io.ReadAll(io.LimitReader(rc, maxShownOutput+1))
	if err := errors.Join(err, rc.Close()); err != nil {
		return nil, err
	}
	if len(content) <= maxShownOutput && json.Valid(content) {
		return bytes.TrimSpace(content), nil
	}
	return json.Marshal(fmt.Sprintf("%d bytes; download it to read it", o.Bytes))
}

// fateModelDownload sends the models of a part as a tar archive.
func (s *Server) fateModelDownload(c *fiber.Ctx) error {
	part, err := s.fatePart(c)
	if err != nil {
		return err
	}
	models := part.of("model")
	if len(models) == 0 {
		return bfia.Errorf(bfia.CodeNotFound, "task_name: the task %s has no model", part.task)
	}
	on(c.UserContext(), audit.Job, part.jobID)
	if err := s.recordAct(c.UserContext()); err != nil {
		return err
	}
	return s.sendArchive(c, false, func(ctx context.Context, to *archive) error {
		for _, o := range models {
			if err := to.addOutput(ctx, portOf(o)+".json", o); err != nil {
				return err
			}
		}
		return nil
	})
}

// fateDataTables returns the addresses of the data that a part has written. FATE's clients expect no
// envelope.
func (s *Server) fateDataTables(c *fiber.Ctx) error {
	part, err := s.fatePart(c)
	if err != nil {
		return err
	}
	if err := s.recordRead(c.UserContext(), part.jobID); err != nil {
		return err
	}
	tables := map[string][]bfia.Address{}
	for _, o := range part.of("data") {
		tables[portOf(o)] = append(tables[portOf(o)], bfia.Address{Namespace: o.Namespace, Name: o.Name})
	}
	return c.JSON(tables)
}

// table is the beginning of a table, with its number of rows.
type table struct {
	Data     [][]string `json:"data"`
	Metadata struct {
		Header []string     `json:"header"`
		Schema *tableSchema `json:"schema_meta,omitempty"`
	} `json:"metadata"`
	Total int `json:"total"`
}

// tableSchema is what FATE-Board reads of the schema of FATE's tables. Without it, it shows no rows.
type tableSchema struct {
	Fields  []tableField `json:"fields"`
	Summary struct {
		Site string `json:"site_name"`
	} `json:"anonymous_summary"`
}

type tableField struct {
	Name string `json:"name"`
}

// schemaOf returns the schema of a table that a party has written in a role.
func schemaOf(header []string, site string) *tableSchema {
	schema := &tableSchema{Fields: make([]tableField, len(header))}
	for i, name := range header {
		schema.Fields[i].Name = name
	}
	schema.Summary.Site = site
	return schema
}

// fateDataDisplay returns the first rows of the data that a part has written. FATE's clients expect no
// envelope.
func (s *Server) fateDataDisplay(c *fiber.Ctx) error {
	part, err := s.fatePart(c)
	if err != nil {
		return err
	}
	if err := s.recordRead(c.UserContext(), part.jobID); err != nil {
		return err
	}
	tables := map[string][]table{}
	for _, o := range part.of("data") {
		t, err := s.displayTable(c.UserContext(), o.Namespace, o.Name)
		if err != nil {
			return err
		}
		t.Metadata.Schema = schemaOf(t.Metadata.Header, o.Role+"_"+s.Node)
		tables[portOf(o)] = append(tables[portOf(o)], t)
	}
	return c.JSON(tables)
}

// displayTable returns the first rows of a dataset, and counts all. Of data that is no CSV file it returns
// nothing.
func (s *Server) displayTable(ctx context.Context, namespace, name string) (t table, err error) {
	t.Data, t.Metadata.Header = [][]string{}, []string{}
	rc, kind, err := s.openData(ctx, namespace, name)
	if err != nil {
		return t, err
	}
	defer func() { err = errors.Join(err, rc.Close()) }()
	if !isCSV(kind) {
		return t, nil
	}
	rows := csv.NewReader(rc)
	rows.ReuseRecord, rows.FieldsPerRecord = true, -1
	for first := true; ; first = false {
		row, err := rows.Read()
		switch {
		case errors.Is(err, io.EOF):
			return t, nil
		case err != nil:
			return t, bfia.Wrap(bfia.CodeConflict, err, "%s is no readable CSV file",
				bfia.Address{Namespace: namespace, Name: name})
		case first:
			t.Metadata.Header = slices.Clone(row)
			continue
		}
		if t.Total++; t.Total <= displayedRows {
			t.Data = append(t.Data, slices.Clone(row))
		}
	}
}

// isCSV reports whether a media type is that of a CSV file.
func isCSV(kind string) bool {
	media, _, err := mime.ParseMediaType(kind)
	return err == nil && media == "text/csv"
}

// fateDataDownload sends the data that a part has written as the archive that FATE's clients unpack.
func (s *Server) fateDataDownload(c *fiber.Ctx) error {
	part, err := s.fatePart(c)
	if err != nil {
		return err
	}
	tables := part.of("data")
	if len(tables) == 0 {
		c.Locals(localFATECodes, fateclient.OfTable)
		return bfia.Errorf(bfia.CodeNotFound, "task_name: the task %s has no such data", part.task)
	}
	on(c.UserContext(), audit.Job, part.jobID)
	if err := s.recordAct(c.UserContext()); err != nil {
		return err
	}
	return s.sendArchive(c, true, func(ctx context.Context, to *archive) error {
		for _, o := range tables {
			rc, kind, err := s.openData(ctx, o.Namespace, o.Name)
			if err != nil {
				return err
			}
			if isCSV(kind) {
				err = to.addTable(portOf(o), rc)
			} else {
				err = errors.Join(to.addStream(portOf(o)+"/0", rc), rc.Close())
			}
			if err != nil {
				return err
			}
		}
		return nil
	})
}

// addOutput adds an output as it was written.
func (a *archive) addOutput(ctx context.Context, name string, o store.Output) error {
	rc, kind, err := a.server.openData(ctx, o.Namespace, o.Name)
	if err != nil {
		return err
	}
	if kind == "application/x-tar" { // several objects
		name = strings.TrimSuffix(name, ".json") + ".tar"
	}
	return errors.Join(a.addStream(name, rc), rc.Close())
}

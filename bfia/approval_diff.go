package bfia

import (
	"bytes"
	"encoding/json"
	"maps"
	"slices"
	"strings"
)

// The fields of an [ApprovalDifference].
const (
	FieldParties   = "parties"
	FieldTask      = "task"
	FieldComponent = "component"
	FieldImages    = "images"
	FieldUpstreams = "upstreams"
	FieldOutputs   = "outputs"
	FieldDataset   = "dataset"
	FieldModel     = "model"
	FieldParameter = "parameter"
)

// differences returns what differs between two jobs, field by field.
func differences(before, now *JobView) []ApprovalDifference {
	list := []ApprovalDifference{}
	add := func(d ApprovalDifference) {
		if d.Now != d.Was {
			list = append(list, d)
		}
	}
	add(ApprovalDifference{Field: FieldParties, Now: partsText(now.Parts), Was: partsText(before.Parts)})
	tasks := map[string]TaskView{}
	for _, t := range before.Tasks {
		tasks[t.Name] = t
	}
	for _, t := range now.Tasks {
		old, found := tasks[t.Name]
		delete(tasks, t.Name)
		if !found {
			add(ApprovalDifference{Task: t.Name, Field: FieldTask, Now: t.component()})
			continue
		}
		compare := func(field, now, was string) {
			add(ApprovalDifference{Task: t.Name, Field: field, Now: now, Was: was})
		}
		compare(FieldComponent, t.component(), old.component())
		compare(FieldImages, imagesText(t.Images), imagesText(old.Images))
		compare(FieldUpstreams, strings.Join(t.DependsOn, ", "), strings.Join(old.DependsOn, ", "))
		compare(FieldOutputs, outputsText(t.Outputs), outputsText(old.Outputs))
		parts := map[string]PartView{}
		for _, p := range old.Parts {
			parts[p.Role] = p
		}
		for _, p := range t.Parts {
			compareParts(add, t.Name, p, parts[p.Role])
		}
	}
	for _, name := range slices.Sorted(maps.Keys(tasks)) {
		add(ApprovalDifference{Task: name, Field: FieldTask, Was: tasks[name].component()})
	}
	return list
}

func compareParts(add func(ApprovalDifference), task string, now, old PartView) {
	add(ApprovalDifference{Task: task, Role: now.Role, Field: FieldDataset, Now: now.Dataset.text(),
		Was: old.Dataset.text()})
	add(ApprovalDifference{Task: task, Role: now.Role, Field: FieldModel, Now: now.Model.text(),
		Was: old.Model.text()})
	names := map[string]bool{}
	for name := range now.Parameters {
		names[name] = true
	}
	for name := range old.Parameters {
		names[name] = true
	}
	for _, name := range slices.Sorted(maps.Keys(names)) {
		add(ApprovalDifference{Task: task, Role: now.Role, Field: FieldParameter, Parameter: name,
			Now: compactText(now.Parameters[name]), Was: compactText(old.Parameters[name])})
	}
}

func (t TaskView) component() string { return t.Component + " of " + t.Provider }

func compactText(raw json.RawMessage) string {
	var b bytes.Buffer
	if json.Compact(&b, raw) != nil {
		return string(raw)
	}
	return b.String()
}

func partsText(parts []Part) string {
	texts := make([]string, len(parts))
	for i, p := range parts {
		texts[i] = p.NodeID + " (" + p.Self() + ")"
	}
	return strings.Join(texts, ", ")
}

func imagesText(images []ImageView) string {
	texts := make([]string, len(images))
	for i, image := range images {
		texts[i] = image.text()
	}
	return strings.Join(texts, ", ")
}

func outputsText(outputs []OutputView) string {
	texts := make([]string, len(outputs))
	for i, o := range outputs {
		texts[i] = o.Type + " " + o.Key + " to " + strings.Join(o.Parties, " and ")
	}
	return strings.Join(texts, ", ")
}

package bfia

import (
	"encoding/json"
	"slices"
	"time"
)

// PartnerData is a dataset that a partner gave to an earlier job, as the document of the job names it. This
// party can't know whether the partner still has it.
type PartnerData struct {
	NodeID  string `json:"node_id"` // the partner
	Dataset string `json:"dataset"` // namespace#name
	// JobID is the newest job that names it, with its flow, its creation, and its outcome once it has ended.
	JobID     string    `json:"job_id"`
	FlowID    string    `json:"flow_id"`
	CreatedAt time.Time `json:"created_at"`
	Outcome   Outcome   `json:"outcome,omitempty"`
	// Parameters are the texts that this job gave to the parts of the partner. Those that name columns are
	// among them: documents don't mark them.
	Parameters []PartnerParameter `json:"parameters"`
}

// PartnerParameter is a parameter of a component.
type PartnerParameter struct {
	Provider  string `json:"provider"` // without the version
	Component string `json:"component"`
	Name      string `json:"name"`
	Value     string `json:"value"`
}

// maxPartnerParameters and maxPartnerValue bound the parameters of a [PartnerData], and the bytes of a value.
const (
	maxPartnerParameters = 100
	maxPartnerValue      = 200
)

// PartnerDataOf returns the datasets that a job reads of other parties than node, in the order of its tasks,
// without the job's creation and outcome. Of a rehearsal it returns those for which the synthetic ones
// were made.
func PartnerDataOf(d *Document, describe Describe, node string) ([]PartnerData, error) {
	var list []PartnerData
	parameters := map[string][]PartnerParameter{}
	for _, c := range d.DAG.Components {
		description, err := describe(c.Provider, c.Version, c.ComponentName)
		if err != nil {
			return nil, PrefixPlace("task "+c.Name, err)
		}
		for _, part := range d.Config.Parts() {
			if part.NodeID == node || !slices.Contains(description.RoleList, part.Role) {
				continue
			}
			values, err := d.Config.TaskParameters(c.Name, part)
			if err != nil {
				return nil, err
			}
			parameters[part.NodeID] = addTexts(parameters[part.NodeID], c, values)
			address, err := d.RootDataset(describe, c.Name, part)
			if err != nil {
				return nil, err
			}
			if address == nil {
				continue
			}
			if real, synthetic := address.Rehearsed(); synthetic {
				address = &real
			}
			data := PartnerData{NodeID: part.NodeID, Dataset: address.String(), JobID: d.JobID,
				FlowID: d.FlowID}
			if !slices.ContainsFunc(list, data.Same) {
				list = append(list, data)
			}
		}
	}
	for i := range list {
		list[i].Parameters = append([]PartnerParameter{}, parameters[list[i].NodeID]...)
	}
	return list, nil
}

// Same reports whether two are the same dataset of the same partner.
func (d PartnerData) Same(other PartnerData) bool {
	return d.NodeID == other.NodeID && d.Dataset == other.Dataset
}

// addTexts adds the texts among the parameters of a task, each once. It leaves out those that name a dataset
// or a model.
func addTexts(list []PartnerParameter, c Component, values map[string]json.RawMessage) []PartnerParameter {
	for _, name := range sortedKeys(values) {
		var text string
		if name == datasetParam || name == ModelParam || json.Unmarshal(values[name], &text) != nil ||
			text == "" || len(text) > maxPartnerValue || len(list) == maxPartnerParameters {
			continue
		}
		p := PartnerParameter{Provider: c.Provider, Component: c.ComponentName, Name: name, Value: text}
		if !slices.Contains(list, p) {
			list = append(list, p)
		}
	}
	return list
}

package fateflow

import (
	"encoding/json"
	"slices"

	"hutong/bfia"
)

// Parties are the parties of one role in a DAG.
type Parties struct {
	Role    string
	PartyID Texts
}

// UnmarshalJSON reads the parties. Their ids may be numbers.
func (p *Parties) UnmarshalJSON(b []byte) error {
	var object map[string]json.RawMessage
	if err := bfia.DecodeJSON(b, &object); err != nil {
		return err
	}
	return bfia.DecodeFields(object, bfia.Required("role", &p.Role),
		bfia.Required("party_id", &p.PartyID))
}

// contains reports whether a list of parties has a party in a role.
func contains(list []Parties, role, party string) bool {
	return slices.ContainsFunc(list,
		func(p Parties) bool { return p.Role == role && slices.Contains(p.PartyID, party) })
}

// Inputs holds the channels of a task by input and by kind of source.
type Inputs map[string]map[string]Channels

// UnmarshalJSON reads the channels. Its errors name the input and the source.
func (in *Inputs) UnmarshalJSON(b []byte) error {
	return bfia.MapOf((*map[string]map[string]Channels)(in), func(sources *map[string]Channels) any {
		return bfia.MapOf(sources, nil)
	})(b)
}

// The kinds of sources of an input.
const (
	SourceTaskOutput = "task_output_artifact"
	SourceDataset    = "data_warehouse"
	SourceModel      = "model_warehouse"
)

// Channels is one channel or a list of them.
type Channels []Channel

// UnmarshalJSON reads one channel or a list of them.
func (c *Channels) UnmarshalJSON(b []byte) error {
	if len(b) > 0 && b[0] == '[' {
		return bfia.ListOf((*[]Channel)(c))(b)
	}
	if string(b) == "null" {
		return nil
	}

	*c = make(Channels, 1)
	return bfia.DecodeJSON(b, &(*c)[0])
}

// Channel names where the data of an input comes from: an output of another task, a dataset, or a model.
type Channel struct {
	Producer  string    `json:"producer_task"`
	Key       string    `json:"output_artifact_key"`
	JobID     Text      `json:"job_id"`
	ModelID   Text      `json:"model_id"`
	Namespace Text      `json:"namespace"`
	Name      Text      `json:"name"`
	DatasetID string    `json:"dataset_id"`
	Parties   []Parties `json:"parties"`
}

// ServesParty reports whether the channel is for a party in a role. A channel that names no parties is for
// all.
func (c Channel) ServesParty(role, party string) bool {
	return len(c.Parties) == 0 || contains(c.Parties, role, party)
}

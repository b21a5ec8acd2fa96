package fateclient

import (
	"encoding/json"
	"maps"
	"slices"

	"hutong/bfia"
	"hutong/fateflow"
)

// readerComponent is FATE's component that reads a dataset. At Hutong the tasks that use it read the dataset
// themselves.
const readerComponent = "reader"

// findReaders moves the tasks that only read a dataset from t.Tasks to t.readers, unless a provider has their
// component.
func (t *translation) findReaders() error {
	t.readers = map[string]task{}
	has, err := t.catalog.Find(readerComponent)
	if err != nil || len(has) > 0 {
		return err
	}
	for name, task := range t.Tasks {
		if task.Component == readerComponent {
			t.readers[name] = task
		}
	}
	t.Tasks = maps.Clone(t.Tasks)
	for name := range t.readers {
		delete(t.Tasks, name)
	}
	return nil
}

// readDataset sets the dataset of the parts that read what a reader has read.
func (t *translation) readDataset(name string, c fateflow.Channel) error {
	reader := t.readers[c.Producer]
	at := slices.Concat(c.Parties, reader.Parties)
	if len(at) == 0 {
		at = t.Parties
	}
	for _, p := range at {
		for _, id := range p.PartyID {
			from, err := t.readerDataset(c.Producer, p.Role, id)
			if err != nil {
				return err
			}
			if from.Name == "" && from.Namespace == "" {
				continue // a party without data, such as an arbiter
			}
			from.Parties = []fateflow.Parties{{Role: p.Role, PartyID: fateflow.Texts{id}}}
			if err := t.dataset(name, from); err != nil {
				return bfia.PrefixPlace("tasks."+c.Producer+" at "+p.Role+" "+id, err)
			}
		}
	}
	return nil
}

// readerDataset returns the dataset that a reader's parameters name for a party: those of the party, or those
// of all.
func (t *translation) readerDataset(reader, role, party string) (fateflow.Channel, error) {
	var c fateflow.Channel
	read := func(place string, values map[string]json.RawMessage) error {
		return bfia.PrefixField(place, bfia.DecodeFields(values, bfia.Optional("namespace", &c.Namespace),
			bfia.Optional("name", &c.Name)))
	}
	if err := read("tasks."+reader+".parameters", t.readers[reader].Parameters); err != nil {
		return c, err
	}
	for _, site := range sortedKeys(t.PartyTasks) {
		p := t.PartyTasks[site]
		named := slices.ContainsFunc(p.Parties,
			func(at fateflow.Parties) bool { return at.Role == role && slices.Contains(at.PartyID, party) })
		if !named {
			continue
		}
		place := "party_tasks." + site + ".tasks." + reader + ".parameters"
		if err := read(place, p.Tasks[reader].Parameters); err != nil {
			return c, err
		}
	}
	return c, nil
}

package activities

import (
	"cmp"
	"encoding/json"
	"fmt"
	"maps"
	"slices"

	"hutong/bfia"
	"hutong/store"
)

// Image is the image of a component: its reference in the registration, and the ids to which the runners that
// had it have resolved that. Machines may have built an image each for itself, with an id of its own.
type Image struct {
	Reference string
	IDs       map[string]string // by runner
}

// Alternatives returns what a runner must have one of to run the image: the ids, or the reference if no
// runner has resolved it. It returns nil for no image.
func (i Image) Alternatives() []string {
	switch {
	case len(i.IDs) > 0:
		return slices.Compact(slices.Sorted(maps.Values(i.IDs)))
	case i.Reference != "":
		return []string{i.Reference}
	}
	return nil
}

// RunOn returns what a runner runs: the id to which it has resolved the image, another runner's id, or the
// reference of an image that no runner had.
func (i Image) RunOn(runnerID string) string {
	if id := i.IDs[runnerID]; id != "" || i.Reference == "" {
		return id
	}
	return i.Alternatives()[0]
}

// ImageInJob returns the image that a job runs for a component of a provider in its record: with the ids that
// were known at the job's creation, or else the one to which the first container of the job with this
// reference has resolved it.
func ImageInJob(record *store.JobRecord, p store.Provider, component string) (Image, error) {
	image, err := ImageOf(p, component)
	if len(image.IDs) == 0 && p.Device == string(bfia.DeviceDocker) {
		image.IDs = record.Images[image.Reference]
	}
	return image, err
}

// ImageOf returns the image that a provider runs for a component; empty if it names none.
func ImageOf(p store.Provider, component string) (Image, error) {
	var m bfia.Metadata
	if len(p.Metadata) > 0 {
		if err := json.Unmarshal(p.Metadata, &m); err != nil {
			return Image{}, fmt.Errorf("failed to read the metadata of provider %s:%s: %w", p.Name, p.Version,
				err)
		}
	}
	var own struct {
		Image string `json:"imageUrl"`
	}
	if text := p.Components[component]; len(text) > 0 {
		if err := json.Unmarshal(text, &own); err != nil {
			own.Image = "" // the description is checked where it is used
		}
	}
	ref := cmp.Or(own.Image, m.Image)
	return Image{Reference: ref, IDs: p.Images[ref]}, nil
}

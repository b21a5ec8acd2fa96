package bfia

import (
	"encoding/json"
	"math"
)

// Resources is an amount of CPU, memory, disk and GPUs: what a container may use, or what a runner has. It is
// the one type for resources; the documents of the protocol write them in cores and GiB.
//
// In a request, 0 sets no limit and reserves nothing. In a total, 0 is unknown and limits nothing, except for
// GPUs: a container gets those that it requests and no others, and a runner has none that are not configured.
type Resources struct {
	CPUMilli int64 `json:"cpu_milli,omitempty"` // thousandths of a core
	Memory   int64 `json:"memory,omitempty"`    // bytes
	Disk     int64 `json:"disk,omitempty"`      // bytes
	GPU      int64 `json:"gpu,omitempty"`       // whole GPUs
}

// documentResources are resources as documents write them.
type documentResources struct {
	CPU    float64 `json:"cpu"`    // cores
	Memory float64 `json:"memory"` // GiB
	Disk   float64 `json:"disk"`   // GiB
	GPU    int64   `json:"gpu"`
}

const gib = 1 << 30

// resources converts d. Negative amounts, which set no limit, become 0.
func (d documentResources) resources() Resources {
	return Resources{
		CPUMilli: int64(math.Round(max(d.CPU, 0) * 1000)),
		Memory:   int64(max(d.Memory, 0) * gib),
		Disk:     int64(max(d.Disk, 0) * gib),
		GPU:      max(d.GPU, 0),
	}
}

// document converts r, and rounds memory and disk to thousandths of a GiB.
func (r Resources) document() documentResources {
	round := func(bytes int64) float64 { return math.Round(float64(bytes)/gib*1000) / 1000 }
	return documentResources{CPU: float64(r.CPUMilli) / 1000, Memory: round(r.Memory), Disk: round(r.Disk),
		GPU: r.GPU}
}

// Resources returns job_params.<role>.<n>.resources (part 2, 6.6): what each container of a part may use. In
// the document, -1, 0 or nothing sets no limit.
func (c *Config) Resources(part Part) (Resources, error) {
	var d documentResources
	for _, l := range c.JobParams.layers(part.Role, part.Index) {
		if err := DecodeFields(l.values, Optional("resources", &d)); err != nil {
			return Resources{}, PrefixField("config.job_params."+l.place, err)
		}
		if err := d.check(); err != nil {
			return Resources{}, PrefixField("config.job_params."+l.place+".resources", err)
		}
	}
	return d.resources(), nil
}

// The smallest and the largest request. Docker Engine can't limit a container to less. More would overflow
// the integers in which runners count.
const (
	leastCPU, leastMemory, leastDisk = 0.01, 1.0 / 128, 1.0 / 1024 // cores, GiB
	mostResources                    = 1_000_000
	mostGPUs                         = 1000
)

func (d documentResources) check() error {
	for _, f := range []struct {
		name, unit   string
		value, least float64
	}{
		{"cpu", "cores", d.CPU, leastCPU},
		{"memory", "GiB", d.Memory, leastMemory},
		{"disk", "GiB", d.Disk, leastDisk},
	} {
		switch {
		case f.value == -1, f.value == 0:
		case f.value < 0:
			return Errorf(CodeBadRequest, "%s: is %v, must be -1 (no limit) or at least %v %s",
				f.name, f.value, f.least, f.unit)
		case f.value < f.least:
			return Errorf(CodeBadRequest, "%s: is %v %s, must be at least %v",
				f.name, f.value, f.unit, f.least)
		case f.value > mostResources:
			return Errorf(CodeBadRequest, "%s: is %v %s, must be at most %d",
				f.name, f.value, f.unit, mostResources)
		}
	}
	if d.GPU < -1 || d.GPU > mostGPUs {
		return Errorf(CodeBadRequest, "gpu: is %d, must be a number of GPUs from 0 to %d, or -1 for none",
			d.GPU, mostGPUs)
	}
	return nil
}

// RunnerCapacity holds the slots and resources of a runner, or a part of them. JSON has resources in cores
// and GiB, as jobs request them.
type RunnerCapacity struct {
	Slots int
	Resources
}

type documentCapacity struct {
	Slots int `json:"slots"`
	documentResources
}

// MarshalJSON implements [json.Marshaler].
func (c RunnerCapacity) MarshalJSON() ([]byte, error) {
	return json.Marshal(documentCapacity{c.Slots, c.document()})
}

// UnmarshalJSON implements [json.Unmarshaler].
func (c *RunnerCapacity) UnmarshalJSON(text []byte) error {
	var d documentCapacity
	if err := json.Unmarshal(text, &d); err != nil {
		return err
	}
	*c = RunnerCapacity{d.Slots, d.resources()}
	return nil
}

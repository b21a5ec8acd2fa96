package admission

import (
	"cmp"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
)

// Resources is an amount of CPU in thousandths of a core, and of memory and disk in bytes. Of a seat it is what the container may
// use, where 0 is no limit and takes nothing; of a host what there is, where 0 is not known and bounds nothing.
type Resources struct {
	CPUMilli int64 `json:"cpu_milli,omitempty"`
	Memory   int64 `json:"memory,omitempty"`
	Disk     int64 `json:"disk,omitempty"`
}

// Constraints are what a task requires of the host that runs it.
type Constraints struct {
	// Devices of its provider: the host must have one of them.
	Devices []string `json:"devices"`
	// Labels that the host must have, with these values.
	Labels map[string]string `json:"labels,omitempty"`
}

// Key is the same for the same needs.
func (n Constraints) Key() string {
	devices := slices.Compact(slices.Sorted(slices.Values(n.Devices)))
	raw, _ := json.Marshal(Constraints{Devices: devices, Labels: n.Labels}) // strings in a struct, and a map's keys are sorted
	return string(raw)
}

// Slot is the room for one container at a time: of one part of a job, for those of its tasks that need the same of a host.
type Slot struct {
	Role        string      `json:"role"`
	Index       int         `json:"index"`
	Constraints Constraints `json:"needs"`
	Resources
}

// Demand are what a job asks of a party: the seats with which any one of its tasks can run, and how often it could use them,
// which is how many of its tasks could run at once.
type Demand struct {
	Slots       []Slot `json:"seats"`
	Parallelism int    `json:"copies"`
}

// Runner is a host that is there, with what is taken of it.
type Runner struct {
	ID      string
	Devices []string
	Labels  map[string]string
	Slots   int
	Total   Resources
	// Closed: it gets nothing new.
	Draining bool

	UsedSlots int // of its slots
	Used      Resources
}

// Unmet is what a host lacks for ever to run what has these needs; empty when it has all of it.
func (h *Runner) Unmet(n Constraints) string {
	if !slices.ContainsFunc(n.Devices, func(d string) bool { return slices.Contains(h.Devices, d) }) {
		return "the device " + strings.Join(n.Devices, " or ")
	}
	for _, k := range slices.Sorted(maps.Keys(n.Labels)) {
		if v, has := h.Labels[k]; !has || v != n.Labels[k] {
			return fmt.Sprintf("the label %s=%s", k, n.Labels[k])
		}
	}
	return ""
}

// short is what a host lacks at present for a seat; empty when it has room.
func (h *Runner) insufficient(s Slot) string {
	if lack := h.Unmet(s.Constraints); lack != "" {
		return "lacks " + lack
	}
	switch {
	case h.Draining:
		return "takes nothing new"
	case h.UsedSlots >= h.Slots:
		return fmt.Sprintf("has all its %d slots taken", h.Slots)
	case over(h.Total.CPUMilli, h.Used.CPUMilli, s.CPUMilli):
		return fmt.Sprintf("has %s of %s CPU cores free, asked for %s", cores(h.Total.CPUMilli-h.Used.CPUMilli), cores(h.Total.CPUMilli), cores(s.CPUMilli))
	case over(h.Total.Memory, h.Used.Memory, s.Memory):
		return fmt.Sprintf("has %s of %s GiB of memory free, asked for %s", gib(h.Total.Memory-h.Used.Memory), gib(h.Total.Memory), gib(s.Memory))
	case over(h.Total.Disk, h.Used.Disk, s.Disk):
		return fmt.Sprintf("has %s of %s GiB of disk free, asked for %s", gib(h.Total.Disk-h.Used.Disk), gib(h.Total.Disk), gib(s.Disk))
	}
	return ""
}

func over(total, used, want int64) bool { return total > 0 && want > 0 && used+want > total }

func cores(milli int64) string { return strconv.FormatFloat(float64(max(milli, 0))/1000, 'f', -1, 64) }
func gib(bytes int64) string {
	return strconv.FormatFloat(float64(max(bytes, 0)*100>>30)/100, 'f', -1, 64)
}

func (h *Runner) allocate(s Slot) {
	h.UsedSlots++
	h.Used.CPUMilli += s.CPUMilli
	h.Used.Memory += s.Memory
	h.Used.Disk += s.Disk
}

func (h *Runner) release(s Slot) {
	h.UsedSlots--
	h.Used.CPUMilli -= s.CPUMilli
	h.Used.Memory -= s.Memory
	h.Used.Disk -= s.Disk
}

// free is how much of a host is free, as the least share of its slots, CPU and memory.
func (h *Runner) freeShare() float64 {
	share := func(total, used int64) float64 {
		if total <= 0 {
			return 1
		}
		return float64(total-used) / float64(total)
	}
	return min(share(int64(h.Slots), int64(h.UsedSlots)), share(h.Total.CPUMilli, h.Used.CPUMilli), share(h.Total.Memory, h.Used.Memory))
}

// searchSteps bounds the search for a place. Among a few hosts the first try is nearly always the answer.
const searchSteps = 20_000

// Position finds a host for each seat, all or none, and takes them of hosts: the freest first, so that work spreads. lack says
// why there is no place; then hosts are as they were. Hosts of the same order in give the same answer.
func Place(hosts []Runner, seats []Slot) (ids []string, lack string) {
	order := make([]int, len(seats))
	for i := range order {
		order[i] = i
	}
	// The largest first: what is left over is for the small ones.
	slices.SortStableFunc(order, func(a, b int) int {
		x, y := seats[a], seats[b]
		return cmp.Or(-cmp.Compare(len(x.Constraints.Labels), len(y.Constraints.Labels)), -cmp.Compare(x.Memory, y.Memory), -cmp.Compare(x.CPUMilli, y.CPUMilli), -cmp.Compare(x.Disk, y.Disk))
	})
	chosen := make([]int, len(seats))
	steps := 0
	var place func(k int) bool
	place = func(k int) bool {
		if k == len(order) {
			return true
		}
		s := seats[order[k]]
		for _, h := range freest(hosts) {
			if steps++; steps > searchSteps {
				return false
			}
			if hosts[h].insufficient(s) != "" {
				continue
			}
			hosts[h].allocate(s)
			chosen[order[k]] = h
			if place(k + 1) {
				return true
			}
			hosts[h].release(s)
		}
		if lack == "" {
			lack = explain(hosts, s)
		}
		return false
	}
	if !place(0) {
		return nil, lack
	}
	ids = make([]string, len(seats))
	for i, h := range chosen {
		ids[i] = hosts[h].ID
	}
	return ids, ""
}

// freest are the places of hosts, the freest first.
func freest(hosts []Runner) []int {
	order := make([]int, len(hosts))
	for i := range order {
		order[i] = i
	}
	slices.SortStableFunc(order, func(a, b int) int { return -cmp.Compare(hosts[a].freeShare(), hosts[b].freeShare()) })
	return order
}

// explain tells why no host has room for a seat.
func explain(hosts []Runner, s Slot) string {
	if len(hosts) == 0 {
		return "no runner host is there"
	}
	var why []string
	for i := range hosts {
		if len(why) == 4 {
			why = append(why, fmt.Sprintf("and %d more", len(hosts)-i))
			break
		}
		short := hosts[i].insufficient(s)
		if short == "" {
			short = "is taken by the job's other seats"
		}
		why = append(why, fmt.Sprintf("host %s %s", hosts[i].ID, short))
	}
	return fmt.Sprintf("no room for %s.%d: %s", s.Role, s.Index, strings.Join(why, "; "))
}

package admission

import (
	"cmp"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"

	"hutong/bfia"
)

// Constraints holds what a task requires of its runner.
type Constraints struct {
	// Devices of the provider. The runner must have one of them.
	Devices []string `json:"devices"`
	// Labels that the runner must have, with these values.
	Labels map[string]string `json:"labels,omitempty"`
}

// Key returns a text that is equal for equal constraints.
func (n Constraints) Key() string {
	devices := slices.Compact(slices.Sorted(slices.Values(n.Devices)))
	raw, _ := json.Marshal(
		Constraints{Devices: devices, Labels: n.Labels},
	) // strings in a struct, and a map's keys are sorted
	return string(raw)
}

// labels returns the required labels as NAME=VALUE, sorted.
func (n Constraints) labels() string {
	var texts []string
	for _, k := range slices.Sorted(maps.Keys(n.Labels)) {
		texts = append(texts, k+"="+n.Labels[k])
	}
	return strings.Join(texts, ", ")
}

// Slot is the right of a job to run one container at a time on one runner. It serves one part, in those tasks
// of the job that have the same constraints.
type Slot struct {
	Role        string      `json:"role"`
	Index       int         `json:"index"`
	Constraints Constraints `json:"constraints"`
	// Images of the tasks that use the slot. A runner needs one of the alternatives of each: ids, or a
	// reference.
	Images [][]string `json:"images,omitempty"`
	bfia.Resources
}

// Demand is what a job requests of a party. Slots suffice for any one of its tasks. Parallelism is the number
// of its tasks that could run at once, and so the greatest useful number of such sets of slots.
type Demand struct {
	Slots       []Slot `json:"slots"`
	Parallelism int    `json:"parallelism"`
}

// Runner is an online runner, with what jobs use of it.
type Runner struct {
	ID      string
	Devices []string
	Labels  map[string]string
	Slots   int
	Total   bfia.Resources
	// Images that the runner has, by reference and id. Only containers of Docker need them there.
	Images map[string]string
	// Draining runners get no new containers.
	Draining bool

	UsedSlots int
	Used      bfia.Resources
}

// missingImages returns the images of a slot that the runner does not have.
func (r *Runner) missingImages(s Slot) [][]string {
	if !slices.Contains(r.Devices, string(bfia.DeviceDocker)) {
		return nil
	}
	return slices.DeleteFunc(slices.Clone(s.Images), func(alternatives []string) bool {
		return slices.ContainsFunc(alternatives, func(image string) bool { return r.Images[image] != "" })
	})
}

// fewestMissing returns the smallest number of images of a slot that a runner lacks which could ever take the
// slot. A slot waits for such a runner, since its containers would fail elsewhere.
func fewestMissing(runners []Runner, s Slot) int {
	fewest := len(s.Images)
	for i := range runners {
		if r := &runners[i]; !r.Draining && r.Slots > 0 && r.couldServe(s) {
			fewest = min(fewest, len(r.missingImages(s)))
		}
	}
	return fewest
}

// LacksImage returns which images of a slot one of the runners lacks while another one has them, or "".
func LacksImage(runners []Runner, of int, s Slot) string {
	if r := &runners[of]; len(r.missingImages(s)) > fewestMissing(runners, s) {
		return r.lacksImages(s)
	}
	return ""
}

// Unmet returns a constraint that the runner can never meet, or "".
func (r *Runner) Unmet(n Constraints) string {
	if !slices.ContainsFunc(n.Devices, func(d string) bool { return slices.Contains(r.Devices, d) }) {
		return "the device " + strings.Join(n.Devices, " or ")
	}
	for _, k := range slices.Sorted(maps.Keys(n.Labels)) {
		if v, has := r.Labels[k]; !has || v != n.Labels[k] {
			return fmt.Sprintf("the label %s=%s", k, n.Labels[k])
		}
	}
	return ""
}

// insufficient returns why the runner can't take a slot now, or "" if it can.
func (r *Runner) insufficient(s Slot) string {
	if unmet := r.Unmet(s.Constraints); unmet != "" {
		return "lacks " + unmet
	}

	switch {
	case r.Draining:
		return "is draining"
	case r.UsedSlots >= r.Slots:
		return fmt.Sprintf("uses all its %d slots", r.Slots)
	case exceeds(r.Total.CPUMilli, r.Used.CPUMilli, s.CPUMilli):
		return fmt.Sprintf("has %s of %s CPU cores free, asked for %s",
			cores(r.Total.CPUMilli-r.Used.CPUMilli), cores(r.Total.CPUMilli), cores(s.CPUMilli))
	case exceeds(r.Total.Memory, r.Used.Memory, s.Memory):
		return fmt.Sprintf("has %s of %s GiB of memory free, asked for %s", gib(r.Total.Memory-r.Used.Memory),
			gib(r.Total.Memory), gib(s.Memory))
	case exceeds(r.Total.Disk, r.Used.Disk, s.Disk):
		return fmt.Sprintf("has %s of %s GiB of disk free, asked for %s", gib(r.Total.Disk-r.Used.Disk),
			gib(r.Total.Disk), gib(s.Disk))
	case r.lacksGPUs(s, r.Used.GPU):
		return fmt.Sprintf("has %d of %d GPUs free, asked for %d", max(r.Total.GPU-r.Used.GPU, 0),
			r.Total.GPU,
			s.GPU)
	}
	return ""
}

// lacksGPUs reports whether a slot requests more GPUs than the runner has unused.
func (r *Runner) lacksGPUs(s Slot, used int64) bool { return s.GPU > 0 && used+s.GPU > r.Total.GPU }

// exceeds reports whether want does not fit into what used leaves of total. A total of 0 is unknown and never
// exceeded.
func exceeds(total, used, want int64) bool { return total > 0 && want > 0 && used+want > total }

func cores(milli int64) string { return strconv.FormatFloat(float64(max(milli, 0))/1000, 'f', -1, 64) }

func gib(bytes int64) string {
	return strconv.FormatFloat(float64(max(bytes, 0)*100>>30)/100, 'f', -1, 64)
}

// allocate marks a slot and its resources as used.
func (r *Runner) allocate(s Slot) {
	r.UsedSlots++
	r.Used.CPUMilli += s.CPUMilli
	r.Used.Memory += s.Memory
	r.Used.Disk += s.Disk
	r.Used.GPU += s.GPU
}

// release reverses allocate.
func (r *Runner) release(s Slot) {
	r.UsedSlots--
	r.Used.CPUMilli -= s.CPUMilli
	r.Used.Memory -= s.Memory
	r.Used.Disk -= s.Disk
	r.Used.GPU -= s.GPU
}

// couldServe reports whether the idle runner could take a slot.
func (r *Runner) couldServe(s Slot) bool {
	return r.Unmet(s.Constraints) == "" && !exceeds(r.Total.CPUMilli, 0, s.CPUMilli) &&
		!exceeds(r.Total.Memory, 0, s.Memory) && !exceeds(r.Total.Disk, 0, s.Disk) && !r.lacksGPUs(s, 0)
}

// freeShare returns the smallest free share of the runner's slots, CPU and memory, between 0 and 1.
func (r *Runner) freeShare() float64 {
	share := func(total, used int64) float64 {
		if total <= 0 {
			return 1
		}
		return float64(total-used) / float64(total)
	}
	return min(share(int64(r.Slots), int64(r.UsedSlots)), share(r.Total.CPUMilli, r.Used.CPUMilli),
		share(r.Total.Memory, r.Used.Memory))
}

// searchSteps bounds the backtracking search of [Place]. With few runners the first try nearly always
// succeeds.
const searchSteps = 20_000

// Place chooses a runner for each slot, all or none, and allocates the slots on runners. If it fails, it
// returns why, and leaves runners unchanged. Equal inputs give equal results.
//
// It is a backtracking search of at most searchSteps steps. It prefers the runners with the greatest free
// share, so that work spreads. It places the slots with the most labels first, then the largest ones, so that
// small ones fill gaps.
func Place(runners []Runner, slots []Slot) (ids []string, unmet string) {
	chosen := place(runners, slots)
	if chosen == nil {
		return nil, explainNoPlace(runners, slots)
	}

	ids = make([]string, len(slots))
	for i, r := range chosen {
		ids[i] = runners[r].ID
	}
	return ids, ""
}

// place returns the index of the chosen runner for each slot, or nil. See [Place].
func place(runners []Runner, slots []Slot) (chosen []int) {
	order := make([]int, len(slots))
	for i := range order {
		order[i] = i
	}
	slices.SortStableFunc(order, func(a, b int) int {
		x, y := slots[a], slots[b]
		return cmp.Or(-cmp.Compare(len(x.Constraints.Labels), len(y.Constraints.Labels)),
			-cmp.Compare(x.GPU, y.GPU), -cmp.Compare(x.Memory, y.Memory), -cmp.Compare(x.CPUMilli,
				y.CPUMilli),
			-cmp.Compare(x.Disk, y.Disk))
	})

	fewest := make([]int, len(slots))
	for i, s := range slots {
		fewest[i] = fewestMissing(runners, s)
	}

	chosen = make([]int, len(slots))
	steps := 0
	var search func(k int) bool
	search = func(k int) bool {
		if k == len(order) {
			return true
		}
		s := slots[order[k]]
		for _, r := range byFreeShare(runners) {
			if steps++; steps > searchSteps {
				return false
			}
			if runners[r].insufficient(s) != "" || len(runners[r].missingImages(s)) > fewest[order[k]] {
				continue
			}

			runners[r].allocate(s)
			chosen[order[k]] = r
			if search(k + 1) {
				return true
			}
			runners[r].release(s)
		}
		return false
	}
	if !search(0) {
		return nil
	}
	return chosen
}

// byFreeShare returns the indexes of runners, the one with the greatest free share first.
func byFreeShare(runners []Runner) []int {
	order := make([]int, len(runners))
	for i := range order {
		order[i] = i
	}
	slices.SortStableFunc(order, func(a, b int) int {
		return -cmp.Compare(runners[a].freeShare(), runners[b].freeShare())
	})
	return order
}

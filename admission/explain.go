package admission

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	"hutong/bfia"
)

// explainNoPlace returns why [Place] finds no runners for slots: first what the online runners lack even when
// they are idle, otherwise what is in use now. It counts nothing of the slots themselves as used.
func explainNoPlace(runners []Runner, slots []Slot) string {
	if len(runners) == 0 {
		return "no runner is online"
	}
	idle := idleRunners(runners)
	if !fit(idle, slots) {
		return explainNeverFits(idle, slots)
	}

	for _, s := range slots {
		if !fit(runners, []Slot{s}) {
			return explainSlot(runners, s, func(r *Runner) string {
				return cmp.Or(r.insufficient(s), r.lacksImages(s))
			})
		}
	}

	return fmt.Sprintf("the %d containers of a task do not fit together now: %s",
		len(slots), describe(runners, (*Runner).free))
}

// explainNeverFits returns why slots don't fit on idle runners, with the numbers and their settings.
func explainNeverFits(idle []Runner, slots []Slot) string {
	for _, s := range slots {
		if !fit(idle, []Slot{s}) {
			return explainSlot(idle, s, func(r *Runner) string {
				return cmp.Or(r.neverSuffices(s), r.lacksImages(s))
			})
		}
	}

	// All slots together, and then those that only some runners can take.
	groups := [][]Slot{slots}
	for _, s := range slots {
		key := s.Constraints.Key()
		groups = append(groups, slices.DeleteFunc(slices.Clone(slots),
			func(o Slot) bool { return o.Constraints.Key() != key }))
	}
	for _, group := range groups {
		if reason := explainTotal(idle, group); reason != "" {
			return reason
		}
	}

	return fmt.Sprintf("the %d containers of a task do not fit together on idle runners: %s",
		len(slots), describe(idle, (*Runner).free))
}

// explainTotal compares what slots need together with what the runners that meet their constraints have
// together. It returns "" if that suffices.
func explainTotal(idle []Runner, slots []Slot) string {
	var needed, total bfia.Resources
	limited := [3]bool{true, true, true} // by CPU, memory and disk: all runners know their amount
	has, names := 0, make([]string, len(slots))
	for i, s := range slots {
		names[i] = fmt.Sprintf("%s.%d", s.Role, s.Index)
		needed.CPUMilli += s.CPUMilli
		needed.Memory += s.Memory
		needed.Disk += s.Disk
		needed.GPU += s.GPU
	}
	for i := range idle {
		r := &idle[i]
		if r.Draining || !slices.ContainsFunc(slots,
			func(s Slot) bool { return r.Unmet(s.Constraints) == "" }) {
			continue
		}
		has += r.Slots
		total.CPUMilli += r.Total.CPUMilli
		total.Memory += r.Total.Memory
		total.Disk += r.Total.Disk
		total.GPU += r.Total.GPU
		for k, amount := range []int64{r.Total.CPUMilli, r.Total.Memory, r.Total.Disk} {
			limited[k] = limited[k] && amount > 0
		}
	}

	on := "the runners"
	if labels := slots[0].Constraints.labels(); labels != "" {
		on = "the runners with " + labels
	}
	switch {
	case len(slots) > has:
		return fmt.Sprintf("a task of the job needs %d slots here at once (for %s), %s have %d (runner.slots)",
			len(slots), strings.Join(names, ", "), on, has)
	case limited[0] && needed.CPUMilli > total.CPUMilli:
		return fmt.Sprintf("a task of the job needs %s CPU cores here, %s have %s (runner.cpu)",
			cores(needed.CPUMilli), on, cores(total.CPUMilli))
	case limited[1] && needed.Memory > total.Memory:
		return fmt.Sprintf("a task of the job needs %s GiB of memory here, %s have %s (runner.memory)",
			gib(needed.Memory), on, gib(total.Memory))
	case limited[2] && needed.Disk > total.Disk:
		return fmt.Sprintf("a task of the job needs %s GiB of disk here, %s have %s (runner.disk)",
			gib(needed.Disk), on, gib(total.Disk))
	case needed.GPU > total.GPU:
		return fmt.Sprintf("a task of the job needs %d GPUs here, %s have %d (runner.gpus)",
			needed.GPU, on, total.GPU)
	}

	return ""
}

// neverSuffices returns why the idle runner can't take a slot, with the setting that limits it, or "".
func (r *Runner) neverSuffices(s Slot) string {
	if unmet := r.Unmet(s.Constraints); unmet != "" {
		return "lacks " + unmet
	}

	switch {
	case r.Draining:
		return "is draining"
	case r.Slots == 0:
		return "has no slots (runner.slots)"
	case exceeds(r.Total.CPUMilli, 0, s.CPUMilli):
		return fmt.Sprintf("has %s CPU cores (runner.cpu), asked for %s",
			cores(r.Total.CPUMilli), cores(s.CPUMilli))
	case exceeds(r.Total.Memory, 0, s.Memory):
		return fmt.Sprintf("has %s GiB of memory (runner.memory), asked for %s", gib(r.Total.Memory),
			gib(s.Memory))
	case exceeds(r.Total.Disk, 0, s.Disk):
		return fmt.Sprintf("has %s GiB of disk (runner.disk), asked for %s", gib(r.Total.Disk), gib(s.Disk))
	case r.lacksGPUs(s, 0):
		return fmt.Sprintf("has %d GPUs (runner.gpus), asked for %d", r.Total.GPU, s.GPU)
	}

	return ""
}

// lacksImages names the images of a slot that the runner does not have, or returns "".
func (r *Runner) lacksImages(s Slot) string {
	var missing []string
	for _, alternatives := range r.missingImages(s) {
		missing = append(missing, strings.Join(alternatives, " or "))
	}
	if len(missing) == 0 {
		return ""
	}

	return "lacks the image " + strings.Join(missing, ", ")
}

// free returns what the runner has free of what it has.
func (r *Runner) free() string {
	if r.Draining {
		return "is draining"
	}
	text := fmt.Sprintf("has %d of %d slots", max(r.Slots-r.UsedSlots, 0), r.Slots)
	if r.Total.CPUMilli > 0 {
		text += fmt.Sprintf(", %s of %s CPU cores", cores(r.Total.CPUMilli-r.Used.CPUMilli),
			cores(r.Total.CPUMilli))
	}
	if r.Total.Memory > 0 {
		text += fmt.Sprintf(", %s of %s GiB of memory", gib(r.Total.Memory-r.Used.Memory),
			gib(r.Total.Memory))
	}
	if r.Total.Disk > 0 {
		text += fmt.Sprintf(", %s of %s GiB of disk", gib(r.Total.Disk-r.Used.Disk), gib(r.Total.Disk))
	}
	if r.Total.GPU > 0 {
		text += fmt.Sprintf(", %d of %d GPUs", r.Total.GPU-r.Used.GPU, r.Total.GPU)
	}

	return text + " free"
}

func explainSlot(runners []Runner, s Slot, why func(*Runner) string) string {
	return fmt.Sprintf("no runner has the resources for %s.%d: %s", s.Role, s.Index, describe(runners, why))
}

// describe joins what is to say about each of the first few runners.
func describe(runners []Runner, text func(*Runner) string) string {
	const most = 4
	var texts []string
	for i := range runners {
		if i == most {
			texts = append(texts, fmt.Sprintf("and %d more", len(runners)-i))
			break
		}
		texts = append(texts, fmt.Sprintf("runner %s %s", runners[i].ID, text(&runners[i])))
	}

	return strings.Join(texts, "; ")
}

// idleRunners returns copies of runners without what is used of them.
func idleRunners(runners []Runner) []Runner {
	idle := slices.Clone(runners)
	for i := range idle {
		idle[i].UsedSlots, idle[i].Used = 0, bfia.Resources{}
	}

	return idle
}

// fit reports whether slots fit on runners, and changes nothing.
func fit(runners []Runner, slots []Slot) bool { return place(slices.Clone(runners), slots) != nil }

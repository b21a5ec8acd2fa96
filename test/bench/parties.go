package main

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"gopkg.in/yaml.v3"

	"hutong/bfia"
	"hutong/test/testenv/apiclient"
	"hutong/test/testenv/ports"
)

// silentShare is the number of partners of which one does not answer.
const silentShare = 20

// measureParties measures a job's cost by its number of parties, and whether partners that have no part in a
// job cost it anything. One party is Hutong, with its processes apart; the others are simulated.
func measureParties(ctx context.Context, o options, into *report) error {
	if err := measureWideJobs(ctx, o, into); err != nil {
		return err
	}
	return measureManyPartners(ctx, o, into)
}

// measureWideJobs measures jobs of two tasks that each run at all parties.
func measureWideJobs(ctx context.Context, o options, into *report) error {
	f, err := startFederation(ctx, o, slices.Max(o.parties)-1, false)
	defer f.stop()
	if err != nil {
		return err
	}
	c := into.addSection("Jobs of many parties: Hutong's CPU for each party",
		fmt.Sprintf("with %d parties", o.parties[0]))
	var first time.Duration
	for i, n := range o.parties {
		document, err := f.document(0, n-1)
		if err != nil {
			return err
		}
		if _, err := f.deployment.runJob(ctx, document); err != nil { // to warm up
			return fmt.Errorf("failed to run a job of %d parties: %w", n, err)
		}
		const repeat = 5
		var took samples
		var last jobTimes
		cpu := f.cpu()
		for range repeat {
			if last, err = f.deployment.runJob(ctx, document); err != nil {
				return fmt.Errorf("failed to run a job of %d parties: %w", n, err)
			}
			took.add(last.finished.Sub(last.submitted), nil)
		}
		each := (f.cpu() - cpu) / time.Duration(repeat*n)
		if i == 0 {
			first = each
		}
		cost, err := f.deployment.historyOf(ctx, last.status.JobID)
		if err != nil {
			return err
		}
		c.add(figure{
			name:     fmt.Sprintf("%d parties", n),
			measured: formatDuration(each),
			baseline: formatDuration(first),
			ratio:    float64(each) / float64(first),
			target:   atMost(1.5),
			notes: []string{fmt.Sprintf("a job takes %s; its submission is answered in %s; longest history %d events",
				formatDuration(median(took.total)), formatDuration(last.answered.Sub(last.submitted)),
				cost.longest)},
		})
	}
	return nil
}

// measureManyPartners compares jobs of two parties at a party that has 1,000 partners, of which some are
// silent, with those at a party that has one. Some jobs are submitted for silent partners, too.
func measureManyPartners(ctx context.Context, o options, into *report) error {
	few, err := startFederation(ctx, o, 1, false)
	defer few.stop()
	if err != nil {
		return err
	}
	many, err := startFederation(ctx, o, o.partners, true)
	defer many.stop()
	if err != nil {
		return err
	}
	const jobs = 40
	var one, all samples
	var cpuOne, cpuAll time.Duration
	for i := range o.rounds + 2 {
		took, cpu, err := few.runMany(ctx, jobs)
		if err != nil {
			return err
		}
		tookAll, cpuMany, err := many.runMany(ctx, jobs)
		if err != nil {
			return err
		}
		if i > 0 { // the first round warms up
			one.add(took, nil)
			all.add(tookAll, nil)
			cpuOne += cpu
			cpuAll += cpuMany
		}
	}
	c := into.addSection(fmt.Sprintf("Jobs of 2 parties, with %d partners of which every %dth is silent",
		o.partners, silentShare), "with 1 partner")
	c.add(figure{
		name:     fmt.Sprintf("time for each of %d jobs at once", jobs),
		measured: formatDuration(median(all.total) / jobs),
		baseline: formatDuration(median(one.total) / jobs),
		ratio:    float64(median(all.total)) / float64(median(one.total)),
		target:   atMost(1.2),
		notes: []string{fmt.Sprintf("meanwhile %d jobs are submitted for silent partners",
			jobs/silentShare)},
	})
	runs := time.Duration(jobs * len(one.total))
	c.add(figure{
		name:     "Hutong's CPU for each job",
		measured: formatDuration(cpuAll / runs),
		baseline: formatDuration(cpuOne / runs),
		ratio:    float64(cpuAll) / float64(cpuOne),
		target:   atMost(1.2),
	})
	return nil
}

// federation is a party whose partners are simulated.
type federation struct {
	processes
	deployment *deployment        // the guest is Hutong; there is no host
	listen     [5]string          // of clients, partners, containers, transport, its partners
	partners   *simulatedPartners // nil: they are real
	count      int                // of partners
	silent     bool               // some of them never answer
	next       atomic.Int64
	idleShare  map[string]float64 // of a core that a process takes without jobs, by its kind
	retention  time.Duration      // of jobs; 0: for ever
}

// startFederation starts a party with a number of partners, of which some may be silent. The caller must stop
// it, even after an error.
func startFederation(ctx context.Context, o options, partners int, silent bool) (f *federation, err error) {
	if f, err = newFederation(ctx, o); err != nil {
		return f, err
	}
	f.count, f.silent = partners, silent
	f.partners, err = startSimulatedPartners("http://"+f.listen[1], f.deployment.guest, f.isSilent)
	if err != nil {
		return f, err
	}
	routes := map[string]any{}
	for i := range partners {
		routes[f.partner(i)] = map[string]any{"url": f.partners.url, "transport_url": f.partners.url}
	}
	return f, f.startParty(ctx, routes)
}

// newFederation starts the Temporal server of a party, and chooses its addresses. The caller must stop it,
// even after an error.
func newFederation(ctx context.Context, o options) (f *federation, err error) {
	f = &federation{}
	if f.processes, err = startProcesses(ctx, o.hutong); err != nil {
		return f, err
	}
	for i := range f.listen {
		if f.listen[i], err = ports.Address(); err != nil {
			return f, err
		}
	}
	f.deployment = &deployment{guest: "BENCH" + strings.ToUpper(rand.Text()[:8]) + "G",
		urls: map[string]string{}, dir: f.dir, temporal: f.temporal}
	f.deployment.urls[f.deployment.guest] = "http://" + f.listen[0]
	return f, nil
}

// startParty starts the processes of the party, with routes to its partners.
func (f *federation) startParty(ctx context.Context, routes map[string]any) error {
	settings := map[string]any{
		"node_id": f.deployment.guest, "listen": f.listen[0], "data_dir": f.dir,
		"containers": map[string]any{"listen": f.listen[2]},
		"security":   map[string]any{"mode": "open"},
		"partners":   map[string]any{"plain_listen": f.listen[1]},
		"transport":  map[string]any{"listen": f.listen[3], "partner_plain_listen": f.listen[4]},
		"temporal":   map[string]any{"address": f.temporal},
		"jobs":       map[string]any{"retention": f.retention.String()},
		"routes":     routes,
		"runner": map[string]any{"slots": manySlots, "docker": map[string]any{"enabled": "false"},
			"process": map[string]any{"allow": []string{exitProgram, sleepProgram}}},
	}
	text, err := yaml.Marshal(settings)
	if err != nil {
		return err
	}
	file := filepath.Join(f.dir, "party.yaml")
	if err := os.WriteFile(file, text, 0o600); err != nil {
		return err
	}
	if err := f.run(ctx, "", "migrate", "-c", file); err != nil {
		return err
	}
	for _, role := range []string{"api", "worker", "transport"} {
		if err := f.start(role, "-c", file); err != nil {
			return err
		}
	}
	ready := f.deployment.urls[f.deployment.guest] + bfia.PathReady
	if err := await(ctx, f.deployment.guest, func() error {
		return apiclient.Call(ctx, http.MethodGet, ready, nil, nil)
	}); err != nil {
		return err
	}
	return f.deployment.registerProgram(ctx, "nothing", 1, exitProgram)
}

func (f *federation) stop() {
	f.processes.stop()
	if f.partners != nil {
		f.partners.stop()
	}
}

// partner returns the node id of the i-th partner.
func (f *federation) partner(i int) string { return fmt.Sprintf("%sP%04d", f.deployment.guest, i) }

// isSilent reports whether a partner never answers.
func (f *federation) isSilent(node string) bool {
	i, err := strconv.Atoi(strings.TrimPrefix(node, f.deployment.guest+"P"))
	return err == nil && f.silent && i%silentShare == silentShare-1
}

// document returns a job of two tasks between the party and n partners from the i-th on.
func (f *federation) document(i, n int) ([]byte, error) {
	var hosts []string
	for k := range n {
		hosts = append(hosts, f.partner((i+k)%f.count))
	}
	return f.documentWith("nothing", 2, hosts)
}

// documentWith returns a job whose tasks follow one another, between the party and others.
func (f *federation) documentWith(provider string, tasks int, hosts []string) ([]byte, error) {
	text, err := f.deployment.dagDocument(provider, shapes[0], tasks)
	if err != nil {
		return nil, err
	}
	var document map[string]any
	if err := json.Unmarshal(text, &document); err != nil {
		return nil, err
	}
	role := map[string]any{"guest": []string{f.deployment.guest}}
	if len(hosts) > 0 {
		role["host"] = hosts
	}
	document["config"].(map[string]any)["role"] = role
	return json.Marshal(document)
}

// runMany runs jobs with one partner each, another one every time, and returns how long they take together,
// and the CPU time. Meanwhile it submits jobs for silent partners, if there are any; these must be refused.
func (f *federation) runMany(ctx context.Context, jobs int) (took, cpu time.Duration, err error) {
	began, before := time.Now(), f.cpu()
	var waste chan error
	if f.silent {
		waste = make(chan error, 1)
		go func() {
			waste <- forEachParallel(jobs/silentShare, jobs, func(i int) error {
				document, err := f.document(silentShare-1+i*silentShare, 1)
				if err != nil {
					return err
				}
				err = apiclient.Call(ctx, http.MethodPost,
					f.deployment.urls[f.deployment.guest]+bfia.PathPlatformCreateAll, document, nil)
				var refused *apiclient.Error
				switch {
				case err == nil:
					return errors.New("a job of a silent partner was accepted")
				case errors.As(err, &refused) && refused.Code == bfia.CodePartnerDown:
					return nil
				}
				return fmt.Errorf("failed to submit a job of a silent partner: %w", err)
			})
		}()
	}
	err = forEachParallel(jobs, 8, func(int) error {
		i := int(f.next.Add(1)) % f.count
		for f.isSilent(f.partner(i)) {
			i = int(f.next.Add(1)) % f.count
		}
		document, err := f.document(i, 1)
		if err != nil {
			return err
		}
		_, err = f.deployment.runJob(ctx, document)
		return err
	})
	took, cpu = time.Since(began), f.cpu()-before
	if f.silent {
		err = errors.Join(err, <-waste)
	}
	return took, cpu, err
}

package doctor

import (
	"context"
	"fmt"
	"strings"

	"hutong/internal/party"
	"hutong/internal/placement"
	"hutong/store"
)

// checkTransports checks the transports of a party that has several: each that holds sessions must run, and
// this machine must reach each one.
func checkTransports(ctx context.Context, cfg *party.Config) Check {
	var all []store.Transport
	var jobs map[string]int
	err := withDatabase(ctx, cfg, func(ctx context.Context, db *store.Store) (err error) {
		if all, err = db.Transports(ctx); err != nil {
			return err
		}
		jobs, err = db.UnfinishedJobsByVolume(ctx)
		return err
	})
	if err != nil {
		return failed("see database.url", "failed to list this party's transports: %v", err)
	}
	return judgeTransports(all, jobs, func(address string) error {
		return placement.Probe(ctx, direct(), "", "", "http://"+address)
	})
}

// judgeTransports returns what is wrong with the transports of a party. jobs counts the jobs in progress
// whose sessions are at each volume. probe reaches a transport at its address.
func judgeTransports(all []store.Transport, jobs map[string]int, probe func(address string) error) Check {
	var live, problems []string
	names := map[string]string{} // by address
	for _, t := range all {
		if !placement.Live(t) {
			if problem := judgeSilent(t, jobs[t.VolumeID]); problem != "" {
				problems = append(problems, problem)
			}
			continue
		}
		live = append(live, t.Name+" at "+t.Address)
		if other, taken := names[t.Address]; taken {
			problems = append(problems, fmt.Sprintf("%s has the address %s of %s", t.Name, t.Address, other))
		}
		names[t.Address] = t.Name
		if t.Single {
			problems = append(problems, t.Name+" runs without transport.several")
		}
		if err := probe(t.Address); err != nil {
			problems = append(problems, fmt.Sprintf("failed to reach %s from this machine: %v", t.Name, err))
		}
	}
	switch {
	case len(problems) > 0:
		return warning("start each transport, or another one with its spool; if a spool is lost, stop the jobs "+
			"that wait for it; set transport.advertise of each to an address of its own that all machines of the "+
			"party reach", "%s", strings.Join(problems, "; "))
	case len(live) == 0:
		return warning("start hutong transport", "no transport of this party is online; known are %d",
			len(all))
	}
	return ok("%d transports answer: %s", len(live), strings.Join(live, ", "))
}

// judgeSilent returns what is wrong with a transport that is not online, or "". One that was stopped while it
// held no job is none of the party's any more.
func judgeSilent(t store.Transport, jobs int) string {
	at := t.HeartbeatAt.Format("2006-01-02 15:04:05Z")
	since := "sent its last heartbeat at " + at
	if t.Stopped {
		since = "has stopped at " + at
	}
	switch {
	case jobs > 0:
		return fmt.Sprintf("%s (volume %s) %s; %d jobs in progress wait for it", t.Name, t.VolumeID, since,
			jobs)
	case t.Stopped:
		return ""
	}
	return fmt.Sprintf("%s (volume %s) %s", t.Name, t.VolumeID, since)
}

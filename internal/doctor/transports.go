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
	err := withDatabase(ctx, cfg, func(ctx context.Context, db *store.Store) (err error) {
		all, err = db.Transports(ctx)
		return err
	})
	if err != nil {
		return failed("see database.url", "failed to list this party's transports: %v", err)
	}
	return judgeTransports(all, func(address string) error {
		return probeTransport(ctx, direct(), "", "", "http://"+address)
	})
}

// judgeTransports returns what is wrong with the transports of a party. probe reaches one at its address.
func judgeTransports(all []store.Transport, probe func(address string) error) Check {
	var live, problems []string
	for _, t := range all {
		if !placement.Live(t) {
			since := "has stopped"
			if !t.HeartbeatAt.IsZero() {
				since = "sent its last heartbeat at " + t.HeartbeatAt.Format("2006-01-02 15:04:05Z")
			}
			problems = append(problems, fmt.Sprintf("%s (volume %s) %s", t.Name, t.VolumeID, since))
			continue
		}
		live = append(live, t.Name+" at "+t.Address)
		if err := probe(t.Address); err != nil {
			problems = append(problems, fmt.Sprintf("failed to reach %s from this machine: %v", t.Name, err))
		}
	}
	switch {
	case len(live) == 0:
		return warning("start hutong transport", "no transport of this party is online; known are %d",
			len(all))
	case len(problems) > 0:
		return warning("start each transport, or another one with its spool; set its transport.advertise "+
			"to an address that all machines of the party reach", "%s", strings.Join(problems, "; "))
	}
	return ok("%d transports answer: %s", len(live), strings.Join(live, ", "))
}

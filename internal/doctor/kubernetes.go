package doctor

import (
	"context"

	"hutong/internal/party"
)

// cluster asks the API server for what a worker asks first. It makes nothing.
func cluster(ctx context.Context, cfg *party.Config) Check {
	const mend = "see that the API server runs, mend runner.k8s.kubeconfig and namespace, and give the party its rights there (docs/kubernetes.md)"
	k, err := cfg.Runner.K8s.Open(cfg.NodeID)
	if err != nil {
		return failed(mend, "%v", err)
	}
	if _, err := k.RunnerID(ctx); err != nil {
		return failed(mend, "%v", err)
	}
	runs, err := k.List(ctx)
	if err != nil {
		return failed(mend, "%v", err)
	}
	return ok("the API server answers; %d run(s) of this party are there", len(runs))
}

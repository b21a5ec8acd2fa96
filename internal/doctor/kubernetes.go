package doctor

import (
	"context"

	"hutong/internal/party"
)

// checkKubernetes sends the API server the same read-only requests as a worker at its start.
func checkKubernetes(ctx context.Context, cfg *party.Config) Check {
	const fix = "start the API server, correct runner.k8s.kubeconfig and runner.k8s.namespace, " +
		"and grant the party its rights there (docs/operators/kubernetes.md)"
	k, err := cfg.OpenKubernetes()
	if err != nil {
		return failed(fix, "%v", err)
	}
	if _, err := k.RunnerID(ctx); err != nil {
		return failed(fix, "%v", err)
	}

	containers, err := k.List(ctx)
	if err != nil {
		return failed(fix, "%v", err)
	}

	return ok("the API server answers; it runs %d pod(s) of this party", len(containers))
}

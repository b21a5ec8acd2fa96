package api

import (
	"net/http"

	"github.com/gofiber/fiber/v2"

	"hutong/bfia"
)

// route is an endpoint.
type route struct {
	method, path string
	handler      fiber.Handler
	// container: the party's containers may call it. They may call nothing else.
	container bool
}

// containerPaths returns the paths that containers call. They count in any spelling that
// [httpguard.CleanPath] reduces to them: some containers append the path to an address that ends with a
// slash.
func containerPaths(routes []route) map[string]bool {
	paths := map[string]bool{}
	for _, r := range routes {
		if r.container {
			paths[r.path] = true
		}
	}
	return paths
}

// routes returns the table of all endpoints. A test compares it with openapi.json.
func (s *Server) routes() []route {
	routes := []route{
		// Clients.
		{http.MethodPost, bfia.PathProviderRegister, s.registerProvider, false},
		{http.MethodGet, bfia.PathProviderQuery, s.queryProviders, false},
		{http.MethodPost, bfia.PathProviderDelete, s.deleteProvider, false},
		{http.MethodPost, bfia.PathProviderAllow, s.allowProvider, false},
		{http.MethodPost, bfia.PathComponentRegister, s.registerComponent, false},
		{http.MethodPost, bfia.PathComponentUpload, s.uploadServerFile, false},
		{http.MethodPost, bfia.PathDataUpload, s.uploadServerFile, false},
		{http.MethodPost, bfia.PathComponentFile, s.uploadFile, false},
		{http.MethodPost, bfia.PathDataFile, s.uploadFile, false},
		{http.MethodGet, bfia.PathDataQuery, s.queryDatasets, false},
		{http.MethodPost, bfia.PathDataDelete, s.deleteDataset, false},
		{http.MethodPost, bfia.PathJobDelete, s.deleteJob, false},
		{http.MethodGet, bfia.PathDataDownload, s.downloadDataset, false},
		{http.MethodPost, bfia.PathPlatformCreateAll, s.submitJob, false},
		{http.MethodPost, bfia.PathV2CreateAll, s.submitJob, false},
		{http.MethodPost, bfia.PathPlatformCheck, s.checkJob, false},
		{http.MethodPost, bfia.PathPlatformStopAll, s.platformStop, false},
		{http.MethodPost, bfia.PathPlatformStopTask, s.platformStopTask, false},
		{http.MethodPost, bfia.PathPlatformAudit, s.platformAudit, false},
		{http.MethodPost, bfia.PathPlatformPriority, s.platformPriority, false},
		{http.MethodGet, bfia.PathPlatformStatusAll, s.platformStatus, false},
		{http.MethodGet, bfia.PathPlatformJobList, s.listJobs, false},
		{http.MethodGet, bfia.PathPlatformLogLines, s.countLogLines, false},
		{http.MethodGet, bfia.PathPlatformLog, s.readLog, false},
		{http.MethodGet, bfia.PathJobOutputs, s.listOutputs, false},
		{http.MethodGet, bfia.PathJobShow, s.showJob, false},
		{http.MethodGet, bfia.PathJobDocument, s.jobDocument, false},

		// Containers.
		{http.MethodPost, bfia.PathPlatformCallback, s.containerCallback, true},

		// Other parties: as scheduler.
		{http.MethodPost, bfia.PathCreateAll, s.createAll, false},
		{http.MethodPost, bfia.PathStopAll, s.stopAll, false},
		{http.MethodGet, bfia.PathStatusAll, s.schedulerStatus, false},
		{http.MethodPost, bfia.PathStatusAll, s.schedulerStatus, false},
		{http.MethodPost, bfia.PathTaskCallback, s.partyCallback, false},
		{http.MethodPost, bfia.PathAuditConfirm, s.auditConfirm, false},
		{http.MethodPost, bfia.PathCapacityHint, s.capacityHint, false},
		{http.MethodPost, bfia.PathPriority, s.changePriority, false},

		// Other parties: as participant.
		{http.MethodPost, bfia.PathCheck, s.checkPart, false},
		{http.MethodPost, bfia.PathCreate, s.createJob, false},
		{http.MethodPost, bfia.PathStart, s.startJob, false},
		{http.MethodPost, bfia.PathTaskStart, s.startTask, false},
		{http.MethodPost, bfia.PathTaskPoll, s.pollTask, false},
		{http.MethodPost, bfia.PathStop, s.stopJob, false},
		{http.MethodPost, bfia.PathTaskStop, s.stopTask, false},
		{http.MethodPost, bfia.PathReserve, s.reserve, false},
		{http.MethodPost, bfia.PathRelease, s.release, false},

		// Operation.
		{http.MethodGet, bfia.PathRunnerQuery, s.queryRunners, false},
		{http.MethodPost, bfia.PathRunnerDrain, s.drainRunner, false},
		{http.MethodGet, bfia.PathHealth, s.health, false},
		{http.MethodGet, bfia.PathReady, s.ready, false},
		{http.MethodGet, bfia.PathOpenAPI, s.openAPI, false},
	}
	return append(routes, s.fateFlowRoutes()...)
}

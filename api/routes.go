package api

import (
	"net/http"
	"slices"

	"github.com/gofiber/fiber/v2"

	"hutong/bfia"
	"hutong/internal/identity"
)

// route is an endpoint.
type route struct {
	method, path string
	handler      fiber.Handler
	// access says who may call it.
	access access
}

// Routes returns the patterns of all endpoints.
func Routes() []string {
	var patterns []string
	for _, r := range (&Server{}).routes() {
		patterns = append(patterns, r.path)
	}
	slices.Sort(patterns)
	return slices.Compact(patterns)
}

// routes returns the table of all endpoints. A test compares it with openapi.json.
func (s *Server) routes() []route {
	routes := []route{
		// Clients.
		{http.MethodPost, bfia.PathProviderRegister, s.registerProvider, clientWith(identity.ProviderAdmin)},
		{http.MethodGet, bfia.PathProviderQuery, s.queryProviders, memberWith(identity.Viewer)},
		{http.MethodPost, bfia.PathProviderDelete, s.deleteProvider, clientWith(identity.ProviderAdmin)},
		{http.MethodPost, bfia.PathProviderAllow, s.allowProvider, clientWith(identity.Admin)},
		{http.MethodPost, bfia.PathComponentRegister, s.registerComponent,
			clientWith(identity.ProviderAdmin)},
		{http.MethodPost, bfia.PathComponentUpload, s.uploadServerFile, clientWith(identity.Data)},
		{http.MethodPost, bfia.PathDataUpload, s.uploadServerFile, clientWith(identity.Data)},
		{http.MethodPost, bfia.PathComponentFile, s.uploadFile, memberWith(identity.Data)},
		{http.MethodPost, bfia.PathDataFile, s.uploadFile, memberWith(identity.Data)},
		{http.MethodGet, bfia.PathDataQuery, s.queryDatasets, memberWith(identity.Viewer)},
		{http.MethodGet, bfia.PathDataPartners, s.queryPartnerData, memberWith(identity.Viewer)},
		{http.MethodPost, bfia.PathDataDelete, s.deleteDataset, memberWith(identity.Data)},
		{http.MethodGet, bfia.PathModelQuery, s.queryModels, memberWith(identity.Viewer)},
		{http.MethodGet, bfia.PathModelPrediction, s.predictWithModel, memberWith(identity.Viewer)},
		{http.MethodPost, bfia.PathModelKeep, s.keepModel, memberWith(identity.Data)},
		{http.MethodPost, bfia.PathModelDelete, s.deleteModel, memberWith(identity.Data)},
		{http.MethodGet, bfia.PathModelExport, s.exportModel, memberWith(identity.Data)},
		{http.MethodPost, bfia.PathModelImport, s.importModel, memberWith(identity.Data)},
		{http.MethodPost, bfia.PathJobDelete, s.deleteJob, memberWith(identity.Operator)},
		{http.MethodGet, bfia.PathDataDownload, s.downloadDataset, memberWith(identity.Data)},
		{http.MethodPost, bfia.PathPlatformCreateAll, s.submitJob, memberWith(identity.Operator)},
		{http.MethodPost, bfia.PathV2CreateAll, s.submitJob, memberWith(identity.Operator)},
		{http.MethodPost, bfia.PathPlatformCheck, s.checkJob, memberWith(identity.Operator)},
		{http.MethodPost, bfia.PathPlatformStopAll, s.platformStop, memberWith(identity.Operator)},
		{http.MethodPost, bfia.PathPlatformStopTask, s.platformStopTask, memberWith(identity.Operator)},
		{http.MethodPost, bfia.PathPlatformAudit, s.platformAudit, memberWith(identity.Approver)},
		{http.MethodPost, bfia.PathPlatformPriority, s.platformPriority, memberWith(identity.Operator)},
		{http.MethodGet, bfia.PathPlatformStatusAll, s.platformStatus, memberWith(identity.Viewer)},
		{http.MethodGet, bfia.PathPlatformJobList, s.listJobs, memberWith(identity.Viewer)},
		{http.MethodGet, bfia.PathPlatformLogLines, s.countLogLines, memberWith(identity.Logs)},
		{http.MethodGet, bfia.PathPlatformLog, s.readLog, memberWith(identity.Logs)},
		{http.MethodGet, bfia.PathJobOutputs, s.listOutputs, memberWith(identity.Viewer)},
		{http.MethodGet, bfia.PathJobShow, s.showJob, memberWith(identity.Viewer, identity.Approver)},
		{http.MethodGet, bfia.PathJobEvidence, s.jobEvidence, clientWith(identity.Auditor)},
		{http.MethodGet, bfia.PathJobAccount, s.jobAccount, memberWith(identity.Viewer)},
		{http.MethodGet, bfia.PathAuditQuery, s.queryTrail, clientWith(identity.Auditor)},
		{http.MethodPost, bfia.PathAuditArchive, s.archiveTrail, clientWith(identity.Admin)},
		{http.MethodGet, bfia.PathJobDocument, s.jobDocument, memberWith(identity.Viewer)},
		{http.MethodPost, bfia.PathTokenCreate, s.createToken, clientWith(identity.Admin)},
		{http.MethodGet, bfia.PathTokenQuery, s.queryTokens, clientWith(identity.Admin)},
		{http.MethodPost, bfia.PathTokenRevoke, s.revokeToken, clientWith(identity.Admin)},
		{http.MethodGet, bfia.PathJobApproval, s.describeApproval,
			memberWith(identity.Viewer, identity.Approver)},
		{http.MethodPost, bfia.PathPeriodicAdd, s.addPeriodic, memberWith(identity.Operator)},
		{http.MethodPost, bfia.PathPeriodicChange, s.changePeriodic, memberWith(identity.Operator)},
		{http.MethodPost, bfia.PathPeriodicPause, s.pausePeriodic, memberWith(identity.Operator)},
		{http.MethodPost, bfia.PathPeriodicResume, s.resumePeriodic, memberWith(identity.Operator)},
		{http.MethodPost, bfia.PathPeriodicRun, s.runPeriodic, memberWith(identity.Operator)},
		{http.MethodPost, bfia.PathPeriodicDelete, s.deletePeriodic, memberWith(identity.Operator)},
		{http.MethodGet, bfia.PathPeriodicQuery, s.queryPeriodic, memberWith(identity.Viewer)},
		{http.MethodPost, bfia.PathApprovalRuleAdd, s.addApprovalRule, memberWith(identity.Approver)},
		{http.MethodGet, bfia.PathApprovalRuleQuery, s.queryApprovalRules,
			memberWith(identity.Viewer, identity.Approver)},
		{http.MethodPost, bfia.PathApprovalRuleRemove, s.removeApprovalRule, memberWith(identity.Approver)},
		{http.MethodGet, bfia.PathOverview, s.overview, memberWith(identity.Viewer, identity.Approver)},
		{http.MethodGet, bfia.PathEvents, s.streamEvents, memberWith(identity.Viewer)},
		{http.MethodGet, bfia.PathWhoAmI, s.whoAmI, anyClient},
		{http.MethodGet, bfia.PathLogin, s.loginMethods, everybody},

		// Other parties: as scheduler.
		{http.MethodPost, bfia.PathCreateAll, s.createAll, anyPartner},
		{http.MethodPost, bfia.PathStopAll, s.stopAll, anyPartner},
		{http.MethodGet, bfia.PathStatusAll, s.schedulerStatus, anyPartner},
		{http.MethodPost, bfia.PathStatusAll, s.schedulerStatus, anyPartner},
		{http.MethodPost, bfia.PathTaskCallback, s.partyCallback, anyPartner},
		{http.MethodPost, bfia.PathAuditConfirm, s.auditConfirm, anyPartner},
		{http.MethodPost, bfia.PathCapacityHint, s.capacityHint, anyPartner},
		{http.MethodPost, bfia.PathPriority, s.changePriority, anyPartner},

		// Other parties: as participant.
		{http.MethodPost, bfia.PathCheck, s.checkPart, anyPartner},
		{http.MethodPost, bfia.PathCreate, s.createJob, anyPartner},
		{http.MethodPost, bfia.PathStart, s.startJob, anyPartner},
		{http.MethodPost, bfia.PathTaskStart, s.startTask, anyPartner},
		{http.MethodPost, bfia.PathTaskPoll, s.pollTask, anyPartner},
		{http.MethodPost, bfia.PathStop, s.stopJob, anyPartner},
		{http.MethodPost, bfia.PathTaskStop, s.stopTask, anyPartner},
		{http.MethodPost, bfia.PathReserve, s.reserve, anyPartner},
		{http.MethodPost, bfia.PathRelease, s.release, anyPartner},

		// Contracts between nodes, for administrators and for other nodes.
		{http.MethodPost, bfia.PathPartnerInvite, s.invitePartner, clientWith(identity.Admin)},
		{http.MethodPost, bfia.PathPartnerApply, s.applyToPartner, clientWith(identity.Admin)},
		{http.MethodPost, bfia.PathPartnerAccept, s.acceptPartner, clientWith(identity.Admin)},
		{http.MethodPost, bfia.PathPartnerUpdate, s.updatePartners, clientWith(identity.Admin)},
		{http.MethodPost, bfia.PathPartnerRemove, s.removePartner, clientWith(identity.Admin)},
		{http.MethodGet, bfia.PathPartnerQuery, s.listPartners, memberWith(identity.Viewer)},
		{http.MethodPost, bfia.PathContractApply, s.receiveApplication, anyNode},
		{http.MethodGet, bfia.PathContractQuery, s.contractState, anyNode},
		{http.MethodGet, bfia.PathNodeQuery, s.describeNode, anyNode},
		{http.MethodGet, bfia.PathNodeHealth, s.nodeHealth, anyNode},
		{http.MethodPost, bfia.PathContractConfirm, s.receiveConfirmation, anyPartner},
		{http.MethodPost, bfia.PathContractTerminate, s.receiveTermination, anyPartner},
		{http.MethodPost, bfia.PathNodeUpdate, s.receiveUpdate, anyPartner},

		// Grants.
		{http.MethodPost, bfia.PathGrantAdd, s.addGrant, clientWith(identity.Admin)},
		{http.MethodGet, bfia.PathGrantQuery, s.queryGrants, clientWith(identity.Admin)},
		{http.MethodPost, bfia.PathGrantRevoke, s.revokeGrant, clientWith(identity.Admin)},

		{http.MethodPost, bfia.PathGrantRequest, s.requestGrant, clientWith(identity.Admin)},
		{http.MethodGet, bfia.PathGrantRequests, s.listGrantRequests, clientWith(identity.Admin)},
		{http.MethodPost, bfia.PathGrantApprove, s.approveGrant, clientWith(identity.Admin)},
		{http.MethodPost, bfia.PathGrantDeny, s.denyGrant, clientWith(identity.Admin)},
		{http.MethodPost, bfia.PathGrantTerminate, s.terminateGrant, clientWith(identity.Admin)},
		{http.MethodPost, bfia.PathDatasetApply, s.receiveGrantRequest, anyPartner},
		{http.MethodPost, bfia.PathDatasetConfirm, s.receiveGrantDecision, anyPartner},
		{http.MethodPost, bfia.PathDatasetTerminate, s.receiveGrantTermination, anyPartner},
		{http.MethodGet, bfia.PathDatasetQuery, s.grantRequestState, anyPartner},

		// Projects.
		{http.MethodGet, bfia.PathProjectQuery, s.queryProjects, memberWith(identity.Viewer)},
		{http.MethodPost, bfia.PathProjectCreate, s.createProject, clientWith(identity.Admin)},
		{http.MethodPost, bfia.PathProjectSet, s.setProject, clientWith(identity.Admin)},
		{http.MethodPost, bfia.PathProjectRemove, s.removeProject, clientWith(identity.Admin)},

		// Operation.
		{http.MethodGet, bfia.PathRunnerQuery, s.queryRunners, memberWith(identity.Viewer)},
		{http.MethodPost, bfia.PathRunnerDrain, s.drainRunner, clientWith(identity.RunnerAdmin)},
		{http.MethodGet, bfia.PathNotificationQuery, s.queryNotifications, clientWith(identity.Viewer)},
		{http.MethodPost, bfia.PathNotificationTest, s.testNotification, clientWith(identity.Operator)},
		{http.MethodPost, bfia.PathNotificationResend, s.resendNotification, clientWith(identity.Operator)},
		{http.MethodGet, bfia.PathHealth, s.health, everybody},
		{http.MethodGet, bfia.PathReady, s.ready, everybody},
		{http.MethodGet, bfia.PathOpenAPI, s.openAPI, everybody},

		// The console.
		{http.MethodGet, pathRoot, s.redirectRoot, everyBrowser},
		{http.MethodGet, pathConsole, s.showConsole, everyBrowser},
	}
	return slices.Concat(routes, s.fateFlowRoutes(), s.fateClientRoutes())
}

package bfia

// The paths of the protocol. The numbers are sections of part 2 of the specification. Server and client share
// them.
const (
	PathProviderRegister  = "/v2/provider/register"
	PathProviderQuery     = "/v2/provider/query"
	PathProviderDelete    = "/v2/provider/delete"
	PathProviderAllow     = "/v2/provider/allow"
	PathRunnerQuery       = "/v2/runner/query" // Hutong's addition
	PathRunnerDrain       = "/v2/runner/drain" // Hutong's addition
	PathComponentUpload   = "/v2/component/upload"
	PathComponentFile     = "/v2/component/upload/file"
	PathDataUpload        = "/v2/data/component/upload"
	PathDataFile          = "/v2/data/component/upload/file"
	PathDataDownload      = "/v2/data/download"
	PathDataQuery         = "/v2/data/query"
	PathDataPartners      = "/v2/data/partners" // Hutong's addition
	PathModelQuery        = "/v2/models/query"  // Hutong's addition, as are the next five
	PathModelPrediction   = "/v2/models/prediction"
	PathModelKeep         = "/v2/models/keep"
	PathModelDelete       = "/v2/models/delete"
	PathModelExport       = "/v2/models/export"
	PathModelImport       = "/v2/models/import"
	PathDataDelete        = "/v2/data/delete"
	PathPlatformCreateAll = "/v1/platform/schedule/job/create_all" // 5.1
	PathV2CreateAll       = "/v2/schedule/job/create_all"
	PathPlatformStopAll   = "/v1/platform/schedule/job/stop_all"       // 5.2
	PathPlatformStatusAll = "/v1/platform/schedule/job/status_all"     // 5.3
	PathPlatformLogLines  = "/v1/platform/schedule/task/get_log_line"  // 5.4
	PathPlatformLog       = "/v1/platform/schedule/task/get_log"       // 5.5
	PathPlatformJobList   = "/v1/platform/schedule/job/query_job_list" // 5.6
	PathPlatformStopTask  = "/v1/platform/schedule/job/stop_task"      // 5.7
	PathComponentRegister = "/v1/platform/schedule/component/register" // 5.8
	PathPlatformAudit     = "/v1/platform/schedule/job/audit_confirm"  // Hutong's addition, after 3.10
	PathPlatformCallback  = "/v1/platform/schedule/task/callback"      // 4.1
	PathPlatformPriority  = "/v1/platform/schedule/job/priority"       // Hutong's addition
	PathPlatformCheck     = "/v1/platform/schedule/job/check"          // Hutong's addition
	PathJobOutputs        = "/v2/job/output/query"
	PathJobShow           = "/v2/job/show" // Hutong's addition
	PathJobDelete         = "/v2/job/delete"
	PathJobDocument       = "/v2/job/document" // Hutong's addition
	PathJobEvidence       = "/v2/job/evidence" // Hutong's addition
	PathJobAccount        = "/v2/job/account"  // Hutong's addition
	PathAuditQuery        = "/v2/audit/query"  // Hutong's addition
	PathAuditArchive      = "/v2/audit/archive"

	// East-west: party to party.
	PathCreateAll    = "/v1/interconn/schedule/job/create_all"    // 3.1
	PathCreate       = "/v1/interconn/schedule/job/create"        // 3.2
	PathStart        = "/v1/interconn/schedule/job/start"         // 3.3
	PathTaskStart    = "/v1/interconn/schedule/task/start"        // 3.4
	PathStopAll      = "/v1/interconn/schedule/job/stop_all"      // 3.5
	PathStop         = "/v1/interconn/schedule/job/stop"          // 3.6
	PathStatusAll    = "/v1/interconn/schedule/job/status_all"    // 3.7
	PathTaskPoll     = "/v1/interconn/schedule/task/poll"         // 3.8
	PathTaskCallback = "/v1/interconn/schedule/task/callback"     // 3.9
	PathAuditConfirm = "/v1/interconn/schedule/job/audit_confirm" // 3.10 of earlier versions
	PathTaskStop     = "/v1/interconn/schedule/task/stop"         // Kuscia's addition

	// East-west, Hutong's additions: reservations and priorities.
	PathReserve      = "/v1/interconn/schedule/job/resource/apply"
	PathRelease      = "/v1/interconn/schedule/job/resource/return"
	PathCapacityHint = "/v1/interconn/schedule/job/resource/capacity_hint"
	PathPriority     = "/v1/interconn/schedule/job/priority"

	// East-west, Hutong's addition: a check of a job that creates nothing.
	PathCheck = "/v1/interconn/schedule/job/check"

	// Operation.
	PathHealth  = "/healthz"
	PathReady   = "/readyz"
	PathOpenAPI = "/openapi.json"
)

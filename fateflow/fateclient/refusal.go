package fateclient

import (
	"net/http"

	"hutong/bfia"
)

// Refusal is an endpoint of FATE-Flow that has no meaning at a party of Hutong.
type Refusal struct {
	Method, Path string
	// What the client wants, and what to use instead.
	What, Instead string
}

// Error returns the refusal's error.
func (r Refusal) Error() error {
	return bfia.Errorf(bfia.CodeRefused, "%s: not at Hutong: %s", r.What, r.Instead)
}

// What to use instead of several endpoints.
const (
	insteadOfClients = "clients have tokens or apps with roles (hutong token), partners have contracts and grants " +
		"(hutong partner, hutong grant)"
	insteadOfPermissions = "hutong grant says what partners may use, jobs.approval: manual asks a person for " +
		"each of their jobs"
	insteadOfModels = "models are outputs of jobs: hutong model lists, exports, imports and deletes them; " +
		"model_id in the parameters of a task names one for a prediction"
	insteadOfDeletions = "flow job clean deletes all of a job; jobs.retention deletes old ones"
)

// Refusals returns the endpoints that a party refuses.
func Refusals() []Refusal {
	get, post := http.MethodGet, http.MethodPost
	list := []Refusal{
		{post, "/v2/data/component/dataframe/transformer", "data transformer",
			"datasets are ready when they are uploaded; a component of a job transforms them"},
		{post, "/v2/data/component/download", "data download-component",
			"flow data download sends a dataset to the client"},
		{post, "/v2/table/bind/path", "table bind", "flow data upload stores a file as a dataset"},
		{post, "/v2/output/metric/delete", "output delete-metric", insteadOfDeletions},
		{post, "/v2/output/model/delete", "output delete-model", insteadOfDeletions},
		{post, "/v2/permission/grant", "permission grant", insteadOfPermissions},
		{post, "/v2/permission/delete", "permission delete", insteadOfPermissions},
		{get, "/v2/permission/query", "permission query", insteadOfPermissions},
		{post, "/v2/permission/resource/grant", "permission grant-resource", insteadOfPermissions},
		{post, "/v2/permission/resource/delete", "permission delete-resource", insteadOfPermissions},
		{get, "/v2/permission/resource/query", "permission query-resource", insteadOfPermissions},
	}
	for _, verb := range []string{"export", "import", "delete", "load", "migrate", "store", "restore"} {
		list = append(list, Refusal{post, "/v2/model/" + verb, "model " + verb, insteadOfModels})
	}
	for _, kind := range []string{"client", "site", "partner"} {
		for _, verb := range []struct{ method, name string }{
			{post, "create"}, {post, "delete"}, {get, "query"},
		} {
			list = append(list, Refusal{verb.method, "/v2/app/" + kind + "/" + verb.name,
				"client " + verb.name + "-" + kind, insteadOfClients})
		}
	}
	return list
}

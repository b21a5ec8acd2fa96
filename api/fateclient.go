package api

import (
	"context"
	"net/http"
	"slices"

	"github.com/gofiber/fiber/v2"

	"hutong/bfia"
	"hutong/fateflow"
	"hutong/fateflow/fateclient"
	"hutong/internal/identity"
	"hutong/store"
)

// fateClientRoutes returns the routes that FATE's clients use besides those of the protocol: the flow command
// line, the pipeline and FATE-Board. Package fateclient implements their forms.
func (s *Server) fateClientRoutes() []route {
	get, post := http.MethodGet, http.MethodPost
	viewer, operator := memberWith(identity.Viewer), memberWith(identity.Operator)
	data, logs := memberWith(identity.Data), memberWith(identity.Logs)
	ofJob, ofTask, ofTable := fateclient.OfJob, fateclient.OfTask, fateclient.OfTable
	routes := []route{
		{post, fateclient.PathJobSubmit, fate(fateclient.OfSubmission, s.fateSubmit), operator},
		{post, fateclient.PathJobRerun, fate(fateclient.OfRerun, s.fateRerun), operator},
		{post, fateclient.PathJobStop, fate(fateclient.OfStop, s.fateStop), operator},
		{post, fateclient.PathJobClean, fate(fateclient.OfStop, s.fateClean), operator},
		{post, fateclient.PathQueueClean, fate(fateclient.OfStop, s.fateQueueClean), operator},
		{post, fateclient.PathJobNotes, fate(ofJob, s.fateNote), operator},
		{get, fateclient.PathJobQuery, fate(ofJob, s.fateJobs), viewer},
		{get, fateclient.PathJobList, fate(ofJob, s.fateJobList), viewer},
		{get, fateclient.PathJobDependency, fate(ofJob, s.fateDependencies), viewer},
		{get, fateclient.PathJobData, fate(ofJob, s.fateDataView), viewer},
		{get, fateclient.PathTaskQuery, fate(ofTask, s.fateTasks), viewer},
		{get, fateclient.PathTaskList, fate(ofTask, s.fateTaskList), viewer},

		{get, fateclient.PathMetricQuery, fate(ofTask, s.fateMetrics), data},
		{get, fateclient.PathMetricKeys, fate(ofTask, s.fateMetricKeys), data},
		{get, fateclient.PathModelQuery, fate(ofTask, s.fateModels), data},
		{get, fateclient.PathModelDownload, fate(fateclient.OfModel, s.fateModelDownload), data},
		{get, fateclient.PathDataTable, fate(ofTask, s.fateDataTables), data},
		{get, fateclient.PathDataDisplay, fate(ofTask, s.fateDataDisplay), data},
		{get, fateclient.PathDataDownload, fate(ofTask, s.fateDataDownload), data},
		{get, fateclient.PathTableQuery, fate(ofTable, s.fateTable), data},
		{post, fateclient.PathTableDelete, fate(ofTable, s.fateTableDelete), data},

		{get, fateclient.PathLogQuery, fate(ofJob, s.fateLogQuery), logs},
		{get, fateclient.PathLogCount, fate(ofJob, s.fateLogCount), logs},
		{post, fateclient.PathJobLog, fate(ofJob, s.fateLogDownload), logs},

		{get, fateclient.PathSite, fate(ofJob, s.fateSite), viewer},
		{get, fateclient.PathServer, fate(ofJob, s.fateServer), viewer},
	}
	for _, r := range fateclient.Refusals() {
		routes = append(routes, route{r.Method, r.Path, fate(fateclient.OfRefusal, s.fateRefuse(r)), viewer})
	}
	return routes
}

// localFATECodes holds the codes of FATE's clients for the errors of a request.
const localFATECodes = "fate_codes"

// fate returns a handler whose errors get the codes that FATE's clients expect, with HTTP status 200: the
// clients ignore it, and FATE-Board takes any other for a broken server.
func fate(codes fateclient.Codes, handler fiber.Handler) fiber.Handler {
	return func(c *fiber.Ctx) error {
		c.Locals(localFATECodes, codes)
		return handler(c)
	}
}

// failFATE answers a request of FATE's clients with an error. answered is false if the error has no code of
// theirs, or the request is not theirs.
func failFATE(c *fiber.Ctx, code bfia.Code, message string) (answered bool, err error) {
	codes, is := c.Locals(localFATECodes).(fateclient.Codes)
	if !is {
		return false, nil
	}
	mapped, known := codes[code]
	if !known {
		return false, nil
	}
	return true, c.Status(http.StatusOK).JSON(map[string]any{"code": mapped, "message": message})
}

// okFATE answers a request of FATE's clients with success. extra holds fields next to data. A nil data is
// left out.
func okFATE(c *fiber.Ctx, data any, extra map[string]any) error {
	body := map[string]any{"code": bfia.CodeOK, "message": "success"}
	if data != nil {
		body["data"] = data
	}
	for k, v := range extra {
		body[k] = v
	}
	return c.JSON(body)
}

// catalog returns the providers that are registered at this party now.
func (s *Server) catalog(ctx context.Context) (fateflow.Catalog, error) {
	providers, err := s.store.Providers(ctx, store.ProviderFilter{})
	if err != nil {
		return fateflow.Catalog{}, err
	}
	return catalogOf(store.NewRegistry(providers)), nil
}

// catalogOf returns a registry as a catalog.
func catalogOf(registry *store.Registry) fateflow.Catalog {
	find := func(component string) ([]fateflow.Provider, error) {
		// The list is sorted by name and version. A version that is registered for several devices has a row
		// for each.
		var found []fateflow.Provider
		for _, r := range registry.Providers() {
			if _, has := r.Components[component]; has {
				found = append(found, fateflow.Provider{Name: r.Name, Version: r.Version})
			}
		}
		return slices.Compact(found), nil
	}
	return fateflow.Catalog{Describe: registry.Describe, Find: find}
}

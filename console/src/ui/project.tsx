// Projects: which one a thing belongs to, and the choice of one for a new thing.
import { get } from "../api/client";
import { partyPaths, type Project } from "../api/party";
import { t } from "../i18n";
import { useResource } from "../resource";
import { can, canSomewhere, defaultProject, ownProjects, projectsWith, type Role } from "../session";

/** ProjectTag shows the project of a thing, unless the client has no other. */
export function ProjectTag({ project }: { project: string | undefined }) {
  const shown = project ?? (ownProjects.value.length > 1 ? defaultProject : undefined);
  if (!shown || ownProjects.value.join() === shown) return null;
  return (
    <span class="tag" title={t("project.title")} translate={false}>
      {shown}
    </span>
  );
}

/** useProjects returns the projects among which the client chooses for what it makes with a role. */
export function useProjects(role: Role): string[] {
  const all = useResource("projects", async (abort) =>
    can(role) && canSomewhere("viewer") ? get<Project[]>(partyPaths.projects, {}, abort) : [],
  );
  if (!can(role)) return [...projectsWith(role)].sort();
  return (all.data ?? []).map((p) => p.name);
}

/** ProjectSelect offers the projects, if there are several. */
export function ProjectSelect(props: { projects: string[]; value: string; change: (project: string) => void }) {
  if (props.projects.length < 2) return null;
  return (
    <label class="field">
      {t("project.title")}
      <select value={props.value} onChange={(e) => props.change(e.currentTarget.value)}>
        {props.projects.map((p) => (
          <option key={p} value={p}>
            {p}
          </option>
        ))}
      </select>
    </label>
  );
}

/** inProject returns the path of a request about a project. Without a choice the party knows the project. */
export function inProject(path: string, project: string | undefined): string {
  return project ? `${path}?project=${encodeURIComponent(project)}` : path;
}

import { ApiError, get } from "../api/client";
import { partyPaths, type Overview } from "../api/party";

/** contacts returns when each partner last made a request, or undefined if the party does not tell. */
export async function contacts(abort: AbortSignal): Promise<Map<string, string | null> | undefined> {
  try {
    const { partners } = await get<Overview>(partyPaths.overview, {}, abort);
    return new Map(partners.map((p) => [p.node_id, p.contact_at]));
  } catch (e) {
    if (e instanceof ApiError && e.status === 404) return undefined;
    throw e;
  }
}

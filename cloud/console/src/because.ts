/** Owns the words for what lay behind a raising: first-out, a degraded vote, the points that contribute most. */
import { named, t } from "./i18n.ts";
import type { Because, Name } from "./types.ts";

/** One sentence each; `groups` are the names of first-out groups by id. */
export function becauseWords(because: Because, groups: ReadonlyMap<string, Name>): string[] {
  const words = because.first_out.map((id) => t("firstOutOf", { group: named(groups.get(id) ?? id) }));
  if (because.vote !== null) words.push(t("voteDegraded", { vote: because.vote }));
  const shared = because.contributions.filter((c) => c.percent !== null).map((c) => `${c.point}\u00a0${c.percent}\u00a0%`);
  if (shared.length > 0) words.push(t("contributions", { points: shared.join(t("listComma")) }));
  const alone = because.contributions.filter((c) => c.percent === null).map((c) => c.point);
  if (alone.length > 0) words.push(t("farthestOff", { points: alone.join(t("listComma")) }));
  return words;
}

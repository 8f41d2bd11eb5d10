/** Owns the switch between Chinese and English. */
import { lang, switchLanguage, t } from "../i18n.ts";

export function LangSwitch() {
  const zh = lang.value === "zh";
  return (
    <button type="button" class="lang" data-testid="lang-switch" aria-label={t("language")} onClick={switchLanguage}>
      <span class={zh ? "on" : ""} lang="zh-CN">
        中文
      </span>
      <span class={zh ? "" : "on"} lang="en">
        EN
      </span>
    </button>
  );
}

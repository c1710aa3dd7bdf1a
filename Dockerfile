# The relay as an image. There is no EXPOSE: PORT says where it listens, and Dokku would publish that number instead of 80.
FROM node:24-slim AS build
WORKDIR /relay
COPY package.json package-lock.json ./
RUN npm ci --include=dev --ignore-scripts
COPY tsconfig.json ./
COPY app app
RUN npm run build && npm prune --omit=dev --ignore-scripts

FROM node:24-slim
ENV NODE_ENV=production
WORKDIR /relay
COPY --from=build /relay/package.json ./
COPY --from=build /relay/node_modules node_modules
COPY --from=build /relay/dist dist
USER node
# Node may read what is in the image and what is mounted for it, and nothing else: it writes no file, starts no program, no worker and no native code.
HEALTHCHECK --interval=30s --timeout=5s --start-period=5s CMD ["node", "--permission", "--allow-fs-read=/relay", "--allow-fs-read=/run/secrets", "--allow-fs-read=/etc/letsencrypt", "dist/bin/health.js"]
CMD ["node", "--permission", "--allow-fs-read=/relay", "--allow-fs-read=/run/secrets", "--allow-fs-read=/etc/letsencrypt", "dist/bin/relay.js"]
